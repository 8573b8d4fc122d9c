/* The same entry for 64-bit test kernels: on the way to the C code it maps the first 4 GiB to themselves with 2 MiB pages
 * and switches to long mode. SDM volume 3, section 9.8.5. */

        .set MAGIC, 0x1badb002
        .set FLAGS, 0

        .set CR4_PAE, 1 << 5
        .set CR0_PG, 1 << 31
        .set CR0_WP, 1 << 16
        .set MSR_EFER, 0xc0000080
        .set EFER_LME, 1 << 8
        .set EFER_NXE, 1 << 11
        .set PAGE_TABLE, 0x3            /* present, writable */
        .set PAGE_LARGE, 0x83           /* and 2 MiB */

        .section .multiboot, "a"
        .balign 4
        .long MAGIC, FLAGS, -(MAGIC + FLAGS)

        .text
        .code32
        .globl start
start:
        cli
        cld
        mov $stack_top, %esp
        mov %eax, %esi                  /* 0x2badb002, if it was a Multiboot loader */

        movl $pdpt + PAGE_TABLE, pml4
        mov $4, %ecx                    /* four directories of 1 GiB each */
        mov $directories + PAGE_TABLE, %eax
        mov $pdpt, %edi
1:      mov %eax, (%edi)
        add $4096, %eax
        add $8, %edi
        loop 1b
        mov $2048, %ecx
        mov $PAGE_LARGE, %eax
        mov $directories, %edi
2:      mov %eax, (%edi)
        add $0x200000, %eax
        add $8, %edi
        loop 2b

        mov $pml4, %eax
        mov %eax, %cr3
        mov $CR4_PAE, %eax
        mov %eax, %cr4
        mov $MSR_EFER, %ecx
        rdmsr
        or $EFER_LME | EFER_NXE, %eax
        wrmsr
        mov %cr0, %eax
        or $CR0_PG | CR0_WP, %eax
        mov %eax, %cr0
        lgdt first_gdt_pointer
        ljmp $8, $3f

        .code64
3:      mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %esi, %edi
        xor %esi, %esi
        call begin
4:      hlt
        jmp 4b

        .balign 8
first_gdt:
        .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
first_gdt_pointer:
        .word . - first_gdt - 1
        .long first_gdt

        .bss
        .balign 4096
        .globl pml4, pdpt, directories
pml4:   .skip 4096
pdpt:   .skip 4096
directories:
        .skip 4 * 4096
        .skip 16384
stack_top:

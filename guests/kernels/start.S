/* Where a Multiboot 1 loader enters a bare-metal test kernel: 32-bit protected mode, flat segments, paging off.
 * Multiboot specification 0.6.96, sections 3.1.1 (header) and 3.2 (machine state). */

        .set MAGIC, 0x1badb002
        .set FLAGS, 0

        .section .multiboot, "a"
        .balign 4
        .long MAGIC, FLAGS, -(MAGIC + FLAGS)

        .text
        .globl start
start:
        cli
        cld
        mov $stack_top, %esp
        push %ebx                       /* the loader's information */
        push %eax                       /* 0x2badb002, if it was a Multiboot loader */
        call begin
1:      hlt
        jmp 1b

        .bss
        .balign 16
        .skip 16384
stack_top:

/* One stub a vector, 16 bytes apart: makes all frames alike and calls on_trap. SDM volume 3, figure 6-4. */

        .text
        .globl trap_stubs
        .balign 16
trap_stubs:
        .set vector, 0
        .rept 256
        .balign 16
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
        push $0                         /* the processor pushed no error code */
        .endif
        pushl $vector
        jmp common
        .set vector, vector + 1
        .endr

common:
        pusha
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        push %esp
        call on_trap
        add $4, %esp
        popa
        add $8, %esp                    /* vector and error code */
        iret

        /* void enter_user(unsigned long ip, unsigned long sp) */
        .globl enter_user
enter_user:
        pusha
        mov %esp, kernel_stack_pointer
        mov 36(%esp), %eax
        mov 40(%esp), %ecx
        mov $0x23, %edx
        mov %edx, %ds
        mov %edx, %es
        push %edx
        push %ecx
        push $2                         /* flags: nothing but the bit that is always set */
        push $0x1b
        push %eax
        iret

        .globl leave_user
leave_user:
        mov kernel_stack_pointer, %esp
        popa
        ret

        .bss
        .balign 4
        .globl kernel_stack_pointer
kernel_stack_pointer:
        .skip 4

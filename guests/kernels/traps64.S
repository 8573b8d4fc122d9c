/* One stub a vector, 16 bytes apart: makes all frames alike and calls on_trap. SDM volume 3, figure 6-9. */

        .text
        .globl trap_stubs
        .balign 16
trap_stubs:
        .set vector, 0
        .rept 256
        .balign 16
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
        pushq $0                        /* the processor pushed no error code */
        .endif
        pushq $vector
        jmp common
        .set vector, vector + 1
        .endr

        .set REGISTERS_LEN, 15 * 8

common:
        push %rax
        push %rcx
        push %rdx
        push %rbx
        push %rbp
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        push %r12
        push %r13
        push %r14
        push %r15
        cld
        mov %rsp, %rdi
        mov %rsp, %rbx                  /* the processor aligned the stack before its frame, not after ours */
        and $-16, %rsp
        call on_trap
        mov %rbx, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rbp
        pop %rbx
        pop %rdx
        pop %rcx
        pop %rax
        add $16, %rsp                   /* vector and error code */
        iretq

        /* void enter_user(unsigned long ip, unsigned long sp) */
        .globl enter_user
enter_user:
        push %rbx
        push %rbp
        push %r12
        push %r13
        push %r14
        push %r15
        mov %rsp, kernel_stack_pointer
        pushq $0x23
        push %rsi
        pushq $2                        /* flags: nothing but the bit that is always set */
        pushq $0x1b
        push %rdi
        iretq

        .globl leave_user
leave_user:
        mov kernel_stack_pointer, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

        .bss
        .balign 8
        .globl kernel_stack_pointer
kernel_stack_pointer:
        .skip 8

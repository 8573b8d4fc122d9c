//! The host code of telling blocks, as it should be.

use ::memory::Ram;
use cpu::{Cpu, Space};
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use x86::Physical;

use super::*;
use crate::cache::Mode;

/// 64-bit code of a program on a processor that has everything.
const MODE: Mode = Mode {
    space: Space::User,
    model: cpu::Model::V3,
    narrow: false,
    open: [true; 2],
    simd: true,
    avx: true,
    x87: true,
    smap: false,
    bases: true,
    windowed: false,
};

/// The host code of `guest`, a line an instruction, from its plain entry on to
/// where the code for what is rare begins. The block expects the flags saved.
fn text(guest: &[u8]) -> Vec<String> {
    text_in(MODE, guest)
}

fn text_in(mode: Mode, guest: &[u8]) -> Vec<String> {
    let (code, block) = translated(mode, Where::Saved, true, guest);
    text_from(&code, block.entries.plain)
}

/// `guest`, translated for a host that has BMI2 or hasn't, with the flags in `flags`
/// where the block begins.
fn translated(mode: Mode, flags: Where, has_bmi2: bool, guest: &[u8]) -> (Code, Block) {
    let ram = Ram::new(1 << 20).expect("a small mapping");
    ram.write(Physical(0x1000), guest).expect("it is RAM");
    let mut cpu = Cpu::new(ram);
    cpu.code_size = if mode.narrow {
        cpu::CodeSize::Bits32
    } else {
        cpu::CodeSize::Bits64
    };
    let key = Key {
        start: Physical(0x1000),
        mode,
        flags,
    };
    let (insns, ended) = cpu::straight_line(&cpu, key.start);
    let line = Line {
        insns,
        ended,
        second: None,
        roams: false,
        far: None,
    };
    let mut code = Code::new(1 << 20).expect("memory for code");
    let routines = Routines::write(&mut code, has_bmi2);
    let mut sites = Sites::default();
    let block = translate(key, 0, &line, &mut code, &mut sites, &routines);
    (code, block)
}

/// The host code from `start` on to where the code for what is rare begins.
fn text_from(code: &Code, start: Offset) -> Vec<String> {
    let bytes = code.read(start, code.next(Section::Hot));
    let mut formatter = GasFormatter::new();
    let mut lines = Vec::new();
    let decoder = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE);
    for insn in decoder {
        let tells_site = insn.mnemonic() == iced_x86::Mnemonic::Mov
            && insn.op0_kind() == OpKind::Memory
            && insn.memory_base() == iced_x86::Register::RSP
            && insn.memory_displacement64() == at::SITE.cast_unsigned().into();
        if tells_site {
            break;
        }
        let mut line = String::new();
        formatter.format(&insn, &mut line);
        lines.push(line);
    }
    lines
}

/// How a block counts the branch that leads to it, from its first instruction on.
fn counting(flags: Where, has_bmi2: bool) -> Vec<String> {
    // jmp .
    let (code, block) = translated(MODE, flags, has_bmi2, &[0xeb, 0xfe]);
    text_from(&code, block.entries.branch)
}

#[test]
fn branches_are_counted_above_the_saved_flags() {
    let saved = counting(Where::Saved, true);
    assert_eq!(saved[0], "sub $0x10000,%rax");
    assert!(saved[1].starts_with("jb 0x"), "{saved:?}");
}

#[test]
fn counting_leaves_the_host_s_flags_alone() {
    let count = ["lea -0x10000(%rax),%rax", "jecxz"];
    let same = |found: &str, expected: &str| found.starts_with(expected);
    let host = counting(Where::Host, true);
    assert_eq!(host[0], "rorx $0x10,%rax,%rcx");
    assert!(
        host[1..].iter().zip(count).all(|(a, b)| same(a, b)),
        "{host:?}"
    );
    let host = counting(Where::Host, false);
    assert_eq!(host[..2], ["mov %rax,0x78(%rsp)", "mov 0x7A(%rsp),%ecx"]);
    assert!(
        host[2..].iter().zip(count).all(|(a, b)| same(a, b)),
        "{host:?}"
    );
}

#[test]
fn a_product_whose_flags_nobody_sees_needs_no_rax() {
    // mul rcx; add rax, 1; jmp .
    let guest = [0x48, 0xf7, 0xe1, 0x48, 0x83, 0xc0, 0x01, 0xeb, 0xfe];
    assert_eq!(text(&guest)[..2], ["mov %rbx,%rdx", "mulx %r10,%rbx,%rdx"]);
    // mul rdx; add rax, 1; jmp .
    let guest = [0x48, 0xf7, 0xe2, 0x48, 0x83, 0xc0, 0x01, 0xeb, 0xfe];
    assert_eq!(text(&guest)[0], "mulx %rbx,%rbx,%rdx");
}

#[test]
fn register_arithmetic_is_emitted_as_it_is() {
    // add rcx, rax; imul rax, rcx (whose flags nobody sees); add rbx, 1; jmp .
    let guest = [
        0x48, 0x01, 0xc1, 0x48, 0x0f, 0xaf, 0xc1, 0x48, 0x83, 0xc3, 0x01, 0xeb, 0xfe,
    ];
    let found = text(&guest);
    assert_eq!(
        found[..3],
        ["add %rbx,%r10", "imul %r10,%rbx", "add $1,%r11"]
    );
}

#[test]
fn a_shift_whose_overflow_flag_is_seen_has_a_last_step_of_its_own() {
    // shl rcx, 3 (whose flags nobody sees); shl rcx, 4; jmp .
    let guest = [0x48, 0xc1, 0xe1, 0x03, 0x48, 0xc1, 0xe1, 0x04, 0xeb, 0xfe];
    let found = text(&guest);
    assert_eq!(
        found[..3],
        ["shl $3,%r10", "shl $3,%r10", "shl $1,%r10"],
        "{found:?}"
    );
}

/// The host code of a kernel that opens its user pages and shuts them again, in
/// `mode` else.
fn opening_user_pages(mode: Mode) -> Vec<String> {
    // mov rdx, [rsi]; stac; mov rcx, [rsi]; clac; mov rdi, [rsi]; jmp .
    let guest = [
        0x48, 0x8b, 0x16, 0x0f, 0x01, 0xcb, 0x48, 0x8b, 0x0e, 0x0f, 0x01, 0xca, 0x48, 0x8b, 0x3e,
        0xeb, 0xfe,
    ];
    let mode = Mode {
        space: Space::Supervisor,
        smap: true,
        ..mode
    };
    text_in(mode, &guest)
}

#[test]
fn rights_that_change_within_a_block_are_those_of_what_follows() {
    let found = opening_user_pages(MODE);
    let looks = found.iter().filter(|line| line.starts_with("sub "));
    let looks: Vec<&String> = looks.collect();
    assert_eq!(looks.len(), 3, "{found:?}");
    assert_eq!(looks[0], looks[2]);
    assert_ne!(looks[0], looks[1]);
    // EFLAGS.AC, and whose rights they are.
    assert!(found.contains(&"lea 0x40000(%rcx),%rcx".to_owned()));
    assert!(found.contains(&"lea -0x40000(%rcx),%rcx".to_owned()));
}

#[test]
fn a_double_shift_whose_flags_nobody_sees_is_one() {
    // shrd rax, rdx, 8; cmp rax, 1; jmp .
    let guest = [
        0x48, 0x0f, 0xac, 0xd0, 0x08, 0x48, 0x83, 0xf8, 0x01, 0xeb, 0xfe,
    ];
    let found = text(&guest);
    assert_eq!(
        found[..2],
        ["shrd $8,%rdx,%rbx", "cmp $1,%rbx"],
        "{found:?}"
    );
}

#[test]
fn a_repetition_that_stays_in_its_page_is_the_hosts() {
    // rep stosq; jmp .
    let found = text(&[0xf3, 0x48, 0xab, 0xeb, 0xfe]);
    let at = found.iter().position(|line| line == "rep stos %rax,(%rdi)");
    let at = at.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found[at + 1], "lea (%r15,%r10,8),%rdi");
    // One lookup before it.
    assert_eq!(
        found.iter().filter(|line| line.starts_with("sub ")).count(),
        1
    );
    // std's direction, counts beyond a page, what goes on behind the page.
    let slow = found[..at].iter().filter(|line| line.starts_with('j'));
    assert_eq!(slow.count(), 4, "{found:?}");
}

#[test]
fn avx_instructions_are_emitted_as_they_are() {
    // vaddps ymm1, ymm2, ymm3; vzeroupper; andn rax, rcx, rbx (whose flags nobody sees); cmp rax, 1; jmp .
    let guest = [
        0xc5, 0xec, 0x58, 0xcb, 0xc5, 0xf8, 0x77, 0xc4, 0xe2, 0xf0, 0xf2, 0xc3, 0x48, 0x83, 0xf8,
        0x01, 0xeb, 0xfe,
    ];
    let found = text(&guest);
    let expected = [
        "vaddps %ymm3,%ymm2,%ymm1",
        "vzeroupper",
        "andn %r11,%r10,%rbx",
        "cmp $1,%rbx",
    ];
    // Before them it is seen to it that the registers are there.
    let start = found.iter().position(|line| *line == expected[0]);
    assert_eq!(
        start.map(|n| &found[n..n + 4]),
        Some(&expected.map(String::from)[..]),
        "{found:?}"
    );
}

#[test]
fn what_clears_all_registers_clears_eight_in_32_bit_code() {
    // vzeroupper; vzeroall
    for code in [[0xc5, 0xf8, 0x77], [0xc5, 0xfc, 0x77]] {
        for narrow in [false, true] {
            let bits = if narrow { 32 } else { 64 };
            let insn = Decoder::with_ip(bits, &code, 0, DecoderOptions::NONE).decode();
            // The host's would clear sixteen: the interpreter has it.
            assert_eq!(simd::is_known(&insn, Mode { narrow, ..MODE }), !narrow);
        }
    }
}

#[test]
fn flags_are_saved_once_before_memory_is_touched() {
    // add rcx, rax; mov rdx, [rsi]; mov rdi, [rsi]; jmp .
    let guest = [
        0x48, 0x01, 0xc1, 0x48, 0x8b, 0x16, 0x48, 0x8b, 0x3e, 0xeb, 0xfe,
    ];
    let found = text(&guest);
    assert_eq!(found.iter().filter(|line| *line == "lahf").count(), 1);
    assert!(found.contains(&"mov (%rcx),%rdx".to_owned()), "{found:?}");
}

#[test]
fn a_run_of_pops_has_one_lookup() {
    // pop rbx; pop rbp; pop r12; ret
    let found = text(&[0x5b, 0x5d, 0x41, 0x5c, 0xc3]);
    let checks = found.iter().filter(|line| line.starts_with("cmp $"));
    assert_eq!(checks.count(), 1, "{found:?}");
    assert!(
        found.contains(&"lea 0x18(%r14),%r14".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_jump_to_another_page_is_a_jump_to_be_linked() {
    // jmp 0x3000 bytes further
    let found = text(&[0xe9, 0xfb, 0x2f, 0, 0]);
    assert_eq!(
        found[..2],
        ["mov 8(%rsp),%rcx", "lea 0x3000(%rcx),%rcx"],
        "{found:?}"
    );
    assert!(found[2].starts_with("jmp 0x"), "{found:?}");
}

#[test]
fn moves_off_one_register_have_one_lookup() {
    // mov rdx, [rsi + 8]; mov [rsi + 16], ecx; movzx eax, byte [rsi]; jmp .
    let found = text(&[
        0x48, 0x8b, 0x56, 0x08, 0x89, 0x4e, 0x10, 0x0f, 0xb6, 0x06, 0xeb, 0xfe,
    ]);
    let checks: Vec<_> = found.iter().filter(|l| l.starts_with("cmp $")).collect();
    assert_eq!(checks, ["cmp $0xFEC,%rcx"], "{found:?}");
    let moves = [
        "mov 8(%rcx),%rdx",
        "mov %r10d,0x10(%rcx)",
        "movzbl (%rcx),%ebx",
    ];
    assert!(found.windows(3).any(|w| w == moves), "{found:?}");
}

#[test]
fn a_run_of_moves_ends_where_its_base_changes() {
    // mov rsi, [rsi + 8]; mov rdx, [rsi + 16]; jmp .
    let found = text(&[0x48, 0x8b, 0x76, 0x08, 0x48, 0x8b, 0x56, 0x10, 0xeb, 0xfe]);
    let checks = found.iter().filter(|line| line.starts_with("cmp $"));
    assert_eq!(checks.count(), 2, "{found:?}");
}

/// The same with windows.
const WINDOWED: Mode = Mode {
    windowed: true,
    ..MODE
};
/// What leads to the window of the address in the guest's `rsi`.
const TO_WINDOW: [&str; 2] = ["shrx %rsp,%rsi,%r15", "mov 0x2440FE0(%rsp,%r15,8),%r15"];

#[test]
fn by_a_window_memory_is_two_instructions_away_and_flags_stay() {
    // add rcx, rax; mov rdx, [rsi + 8]; adc [rsi], rdx; mov rcx, [rsi + rdx * 4]; jmp .
    let found = text_in(
        WINDOWED,
        &[
            0x48, 0x01, 0xc1, 0x48, 0x8b, 0x56, 0x08, 0x48, 0x11, 0x16, 0x48, 0x8b, 0x0c, 0x96,
            0xeb, 0xfe,
        ],
    );
    let expected = [
        "add %rbx,%r10",
        TO_WINDOW[0],
        TO_WINDOW[1],
        "mov 8(%rsi,%r15),%rdx",
        // What leads there is still at hand.
        "adc %rdx,(%rsi,%r15)",
        "lea (%rsi,%rdx,4),%rcx",
        "shrx %rsp,%rcx,%r15",
        TO_WINDOW[1],
        "mov (%rcx,%r15),%r10",
    ];
    assert_eq!(found[..9], expected, "{found:?}");
}

#[test]
fn a_base_that_changes_has_another_window() {
    // mov rsi, [rsi + 8]; mov rdx, [rsi]; add rsi, 16; mov rcx, [rsi]; jmp .
    let found = text_in(
        WINDOWED,
        &[
            0x48, 0x8b, 0x76, 0x08, 0x48, 0x8b, 0x16, 0x48, 0x83, 0xc6, 0x10, 0x48, 0x8b, 0x0e,
            0xeb, 0xfe,
        ],
    );
    let expected = [
        TO_WINDOW[0],
        TO_WINDOW[1],
        "mov 8(%rsi,%r15),%rsi",
        TO_WINDOW[0],
        TO_WINDOW[1],
        "mov (%rsi,%r15),%rdx",
        "add $0x10,%rsi",
        // A small step doesn't leave it.
        "mov (%rsi,%r15),%r10",
    ];
    assert_eq!(found[..8], expected, "{found:?}");
}

#[test]
fn pushes_and_pops_are_made_in_the_stacks_window() {
    // push rbx; push rax; mov rdx, [rsp + 24]; pop rax; jmp .
    let found = text_in(
        WINDOWED,
        &[0x53, 0x50, 0x48, 0x8b, 0x54, 0x24, 0x18, 0x58, 0xeb, 0xfe],
    );
    let expected = [
        "shrx %rsp,%r14,%r15",
        TO_WINDOW[1],
        "mov %r11,-8(%r14,%r15)",
        "mov %rbx,-0x10(%r14,%r15)",
        "lea -0x10(%r14),%r14",
        "mov 0x18(%r14,%r15),%rdx",
        "mov (%r14,%r15),%rbx",
        "lea 8(%r14),%r14",
    ];
    assert_eq!(found[..8], expected, "{found:?}");
}

#[test]
fn all_addresses_of_32_bit_code_have_one_window() {
    // mov edx, [esi + 8]; mov [edi + edx * 4], ecx; push ebx; jmp .
    let found = text_in(
        Mode {
            narrow: true,
            ..WINDOWED
        },
        &[0x8b, 0x56, 0x08, 0x89, 0x0c, 0x97, 0x53, 0xeb, 0xfe],
    );
    let expected = [
        "lea 8(%rsi),%ecx",
        "mov 0x2440FE0(%rsp),%r15",
        "mov (%rcx,%r15),%edx",
        "lea (%rdi,%rdx,4),%ecx",
        "mov %r10d,(%rcx,%r15)",
        "lea -4(%r14),%ecx",
        "lea (%rcx,%r15),%rcx",
        "mov %r11d,(%rcx)",
        "lea -4(%r14),%r14d",
    ];
    assert_eq!(found[..9], expected, "{found:?}");
}

#[test]
fn a_repetition_in_32_bit_code_has_no_upper_halves() {
    // rep movsd; jmp .
    let narrow = Mode {
        narrow: true,
        ..MODE
    };
    let found = text_in(narrow, &[0xf3, 0xa5, 0xeb, 0xfe]);
    let starts = [
        "mov %r10,%r15",
        "or %rdi,%r15",
        "or %rsi,%r15",
        "shr $0x20,%r15",
    ];
    assert!(found.windows(4).any(|w| w == starts), "{found:?}");
    let at = found
        .iter()
        .position(|line| line == "rep movsl (%rsi),(%rdi)");
    assert!(at.is_some(), "{found:?}");
    assert!(found.contains(&"lea (%rdi,%r10,4),%edi".to_owned()));
}

#[test]
fn flags_go_to_and_from_ah_as_they_are_saved() {
    // lahf; cld; sahf; jmp .
    let found = text(&[0x9f, 0xfc, 0x9e, 0xeb, 0xfe]);
    let expected = [
        "mov %ah,%bh",
        "andq $0xFFFFFFFFFFFFFBFF,0x98(%rsp)",
        "mov %bh,%ah",
        "and $0xD5,%ah",
        "or $2,%ah",
    ];
    assert_eq!(found[..5], expected, "{found:?}");
}

#[test]
fn a_register_without_a_second_byte_is_lent_one_that_has() {
    // mov bl, ah (whose registers the host has at r11 and rbx); mov ah, bl; mov ch, al; jmp .
    let found = text(&[0x88, 0xe3, 0x88, 0xdc, 0x88, 0xc5, 0xeb, 0xfe]);
    let expected = [
        "mov %r11,%rcx",
        "mov %bh,%cl",
        "mov %rcx,%r11",
        "mov %r11,%rcx",
        "mov %cl,%bh",
        "mov %r10,%rcx",
        "mov %bl,%ch",
        "mov %rcx,%r10",
    ];
    assert_eq!(found[..8], expected, "{found:?}");
}

#[test]
fn where_text_was_found_goes_to_the_counter() {
    // pcmpistri xmm1, [rsi], 0x0c; jmp .
    let found = text(&[0x66, 0x0f, 0x3a, 0x63, 0x0e, 0x0c, 0xeb, 0xfe]);
    let compare = "pcmpistri $0xC,(%rcx),%xmm1";
    let at = found.iter().position(|line| line == compare);
    let at = at.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found[at + 1], "mov %ecx,%r10d");
}

#[test]
fn text_is_read_before_its_length_takes_the_flags_place() {
    // pcmpestri xmm1, [rsi], 0; jmp .
    let found = text(&[0x66, 0x0f, 0x3a, 0x61, 0x0e, 0, 0xeb, 0xfe]);
    let expected = [
        "mov (%rcx),%r15",
        "mov 8(%rcx),%r15",
        "mov %rax,%r15",
        "mov %rbx,%rax",
        "pcmpestri $0,(%rcx),%xmm1",
        "mov %r15,%rax",
        "mov %ecx,%r10d",
    ];
    assert!(found.windows(7).any(|w| w == expected), "{found:?}");
}

#[test]
fn a_kernel_s_windows_are_others_and_none_of_its_user_pages() {
    let found = opening_user_pages(WINDOWED);
    let expected = [
        TO_WINDOW[0],
        // A mebibyte behind the programs' table.
        "mov 0x2540FE0(%rsp,%r15,8),%r15",
        "mov (%rsi,%r15),%rdx",
    ];
    assert_eq!(found[..3], expected, "{found:?}");
    let by_window = found.iter().filter(|line| line.starts_with("shrx "));
    let by_tlb = found.iter().filter(|line| line.starts_with("sub "));
    assert_eq!((by_window.count(), by_tlb.count()), (1, 2), "{found:?}");
}

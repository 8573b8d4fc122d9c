//! The cell: it runs what it is given, reports faults as the processor raised them, and holds.

use oracle::case::{Case, Change, End, Fault, Mode, Patch, Subject};
use oracle::layout::{
    CODE, CODE_START, DATA, PAGE_BYTES, PATCHABLE, READ_ONLY, STACK_POINTER, baseline,
};
use oracle::silicon::Silicon;
use oracle::state::{flag, gpr};

fn silicon() -> Silicon {
    Silicon::start().expect("the host can run the cell")
}

fn fault(vector: u8, error: u32, address: Option<u64>) -> End {
    End::Fault(Fault {
        vector,
        error,
        address,
    })
}

#[test]
fn an_addition_sets_its_result_and_flags() {
    let mut case = Case::new("add eax, ebx", Mode::Long, &[0x01, 0xd8]);
    case.state.gpr[gpr::RAX] = 0xffff_ffff_ffff_ffff;
    case.state.gpr[gpr::RBX] = 1;
    let outcome = silicon().run(&case);
    assert_eq!(outcome.end, End::Left);
    assert_eq!(outcome.state.gpr[gpr::RAX], 0);
    assert_eq!(outcome.state.rip, CODE_START + 2);
    assert_eq!(
        outcome.state.rflags & flag::ARITHMETIC,
        flag::CF | flag::PF | flag::AF | flag::ZF
    );
    assert!(outcome.changes.is_empty());
}

#[test]
fn sse_registers_and_bases_are_loaded_and_come_back() {
    // movups xmm9, fs:[0]
    let mut case = Case::new(
        "movups",
        Mode::Long,
        &[0x64, 0x44, 0x0f, 0x10, 0x0c, 0x25, 0, 0, 0, 0],
    );
    case.state.fs_base = DATA;
    case.state.gs_base = 0x7777_0000;
    case.state
        .fx
        .set_xmm(1, 0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
    case.patches.push(Patch {
        address: DATA,
        bytes: (1..=16).collect(),
    });
    let outcome = silicon().run(&case);
    assert_eq!(outcome.end, End::Left);
    assert_eq!(
        outcome.state.fx.xmm(9).to_le_bytes().to_vec(),
        (1..=16).collect::<Vec<u8>>()
    );
    assert_eq!(outcome.state.fx.xmm(1), case.state.fx.xmm(1));
    assert_eq!(
        (outcome.state.fs_base, outcome.state.gs_base),
        (DATA, 0x7777_0000)
    );
}

#[test]
fn a_repeated_string_instruction_runs_to_its_end() {
    let mut case = Case::new("rep stosb", Mode::Long, &[0xf3, 0xaa]);
    case.state.gpr[gpr::RCX] = 16;
    case.state.gpr[gpr::RDI] = DATA + 8;
    case.state.gpr[gpr::RAX] = 0x5a;
    let outcome = silicon().run(&case);
    assert_eq!((outcome.end, outcome.state.gpr[gpr::RCX]), (End::Left, 0));
    let value = 0x5a5a_5a5a_5a5a_5a5a;
    assert_eq!(
        outcome.changes,
        [
            Change {
                address: DATA + 8,
                value
            },
            Change {
                address: DATA + 16,
                value
            }
        ]
    );
}

#[test]
fn memory_is_as_new_for_every_case() {
    let mut store = Case::new("mov [rdi], al", Mode::Long, &[0x88, 0x07]);
    store.state.gpr[gpr::RDI] = DATA + 3;
    let mut load = Case::new("mov rax, [rdi]", Mode::Long, &[0x48, 0x8b, 0x07]);
    load.state.gpr[gpr::RDI] = DATA;
    let outcomes = silicon().run_all(&[store, load]);
    assert_eq!(outcomes[1].state.gpr[gpr::RAX], baseline(DATA));
}

#[test]
fn faults_come_with_vector_error_code_and_address() {
    let load = |address| {
        let mut case = Case::new("mov al, [rdi]", Mode::Long, &[0x8a, 0x07]);
        case.state.gpr[gpr::RDI] = address;
        case
    };
    let store = |address| Case {
        code: vec![0x88, 0x07],
        ..load(address)
    };
    let code = |bytes: &[u8]| Case::new("", Mode::Long, bytes);
    let mut at_the_end = code(&[0x48, 0x89, 0xc0]);
    at_the_end.state.rip = CODE + 2 * PAGE_BYTES - 2;
    let mut jump_to_data = code(&[0xff, 0xe7, 0x90]);
    jump_to_data.state.gpr[gpr::RDI] = DATA;
    let mut single_step = code(&[0x90]);
    single_step.state.rflags |= flag::TF;
    let mut unaligned = Case {
        code: vec![0x66, 0x8b, 0x07],
        ..load(DATA + 1)
    };
    unaligned.state.rflags |= flag::AC;
    let mut simd = code(&[0x0f, 0x5e, 0xc1]);
    simd.state.fx.set_mxcsr(0x1f80 & !0x80 & !0x200);
    simd.state.fx.set_xmm(0, 0x3f80_0000);
    let mut x87 = code(&[0x9b]);
    x87.state.fx.set_fcw(0x037e);
    x87.state.fx.set_fsw(0x8081);
    let expected = [
        (load(DATA - 1), fault(14, 4, Some(DATA - 1))),
        (store(DATA - 1), fault(14, 6, Some(DATA - 1))),
        (store(READ_ONLY), fault(14, 7, Some(READ_ONLY))),
        (store(CODE), fault(14, 7, Some(CODE))),
        (load(1 << 63), fault(13, 0, None)),
        (at_the_end, fault(14, 0x14, Some(CODE + 2 * PAGE_BYTES))),
        (code(&[0x0f, 0x0b]), fault(6, 0, None)),
        (code(&[0xf4]), fault(13, 0, None)),
        (code(&[0xf7, 0xf0]), fault(0, 0, None)),
        (code(&[0xcc]), fault(3, 0, None)),
        (code(&[0xcd, 0x42]), fault(13, 0x42 * 8 + 2, None)),
        (single_step, fault(1, 0, None)),
        (unaligned, fault(17, 0, None)),
        (simd, fault(19, 0, None)),
        (x87, fault(16, 0, None)),
        (jump_to_data, End::Left),
    ];
    let cases: Vec<Case> = expected.iter().map(|(case, _)| case.clone()).collect();
    let outcomes = silicon().run_all(&cases);
    for ((case, end), outcome) in expected.iter().zip(&outcomes) {
        assert_eq!(outcome.end, *end, "{}", case.disassembly());
    }
    assert_eq!(
        outcomes[11].state.rip,
        CODE_START + 1,
        "a single step traps after the instruction"
    );
    assert_eq!(outcomes[9].state.rip, CODE_START + 1, "int3 is a trap");
    assert_eq!(outcomes[0].state.rip, CODE_START, "a page fault restarts");
}

#[test]
fn no_system_call_reaches_the_kernel() {
    for code in [&[0x0f, 0x05][..], &[0xcd, 0x80], &[0x0f, 0x34]] {
        // exit_group, by each table's number.
        for number in [231, 252] {
            let mut case = Case::new("system call", Mode::Long, code);
            case.state.gpr[gpr::RAX] = number;
            // Where Linux reads an argument before it looks at the number.
            case.state.gpr[gpr::RBP] = STACK_POINTER;
            let mut silicon = silicon();
            let refused = match silicon.run(&case).end {
                // AMD's processors know no SYSENTER in 64-bit mode; on Intel's it is a system call
                // of 32-bit code, for which the filter ends the cell.
                End::Fault(fault) => fault.vector == 6 && code == [0x0f, 0x34],
                End::Lost(_) => code == [0x0f, 0x34],
                end => end == End::SystemCall,
            };
            assert!(
                refused,
                "{}: {:?}",
                case.disassembly(),
                silicon.run(&case).end
            );
            assert_eq!(
                silicon.run(&Case::new("nop", Mode::Long, &[0x90])).end,
                End::Left
            );
        }
    }
}

#[test]
fn thirty_two_bit_code_runs_in_compatibility_mode() {
    // inc eax; in 64-bit mode this byte would be a REX prefix.
    let mut case = Case::new("inc eax", Mode::Compat, &[0x40]);
    case.state.gpr[gpr::RAX] = 0xffff_ffff;
    let outcome = silicon().run(&case);
    assert_eq!((outcome.end, outcome.state.gpr[gpr::RAX]), (End::Left, 0));
    // push es; pop eax; mov al, [esp - 4]
    let case = Case::new(
        "push es",
        Mode::Compat,
        &[0x06, 0x58, 0x8a, 0x5c, 0x24, 0xfc],
    );
    let outcome = silicon().run(&case);
    // Intel's processors store 16 bits, AMD's 32.
    assert_eq!(outcome.state.gpr[gpr::RAX] & 0xffff, 0x2b);
    assert_eq!(
        (outcome.state.gpr[gpr::RBX], outcome.state.gpr[gpr::RSP]),
        (0x2b, STACK_POINTER)
    );
}

#[test]
fn pushed_flags_do_not_show_the_stepping() {
    let outcome = silicon().run(&Case::new("pushfq; pop rax", Mode::Long, &[0x9c, 0x58]));
    assert_eq!(
        (outcome.end, outcome.state.gpr[gpr::RAX]),
        (End::Left, 0x202)
    );
}

#[test]
fn code_may_patch_itself_in_the_patchable_page() {
    // mov byte [rip+0], 0x41 patches the REX prefix of `xchg eax, eax` ... into `xchg r8d, eax`.
    let mut case = Case::new(
        "patch",
        Mode::Long,
        &[0xc6, 0x05, 0, 0, 0, 0, 0x41, 0x40, 0x90],
    );
    case.state.rip = PATCHABLE;
    case.state.gpr[8] = 77;
    let outcome = silicon().run(&case);
    assert_eq!((outcome.end, outcome.state.gpr[gpr::RAX]), (End::Left, 77));
}

#[test]
fn a_case_that_does_not_end_is_cut_off() {
    let endless = Case::new("jmp self", Mode::Long, &[0xeb, 0xfe]);
    assert_eq!(silicon().run(&endless).end, End::Endless);
}

#[test]
fn a_case_that_kills_the_cell_is_lost_and_the_next_one_runs() {
    // Code with `pushf` runs freely, so it can get into the cell's own code; there it makes a
    // system call that is not on the cell's list.
    let mut case = Case::new("pushfq; jmp rax", Mode::Long, &[0x9c, 0xff, 0xe0]);
    case.state.gpr[gpr::RAX] = libc::getpid as *const () as u64;
    let nop = Case::new("nop", Mode::Long, &[0x90]);
    let outcomes = silicon().run_all(&[nop.clone(), case, nop]);
    assert!(
        matches!(outcomes[1].end, End::Lost(_)),
        "{}",
        outcomes[1].end
    );
    assert_eq!((outcomes[0].end, outcomes[2].end), (End::Left, End::Left));
}

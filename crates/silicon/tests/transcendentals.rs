//! The x87 transcendental functions are correctly rounded: against values computed elsewhere with 700 bits.

use silicon::x87::{Control, F80, f2xm1, fcos, fpatan, fptan, fsin, fyl2x, fyl2xp1};

#[test]
fn transcendentals_are_correctly_rounded() {
    let vectors = include_str!("transcendentals.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    for line in vectors {
        let (name, numbers) = line.split_once(' ').expect("a name and numbers");
        let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let numbers: Vec<u64> = numbers.split(' ').map(number).collect();
        let value = |at: usize| F80 {
            mantissa: numbers[at],
            sign_exp: numbers[at + 1] as u16,
        };
        let (a, b, expected) = (value(1), value(3), value(5));
        let control = Control(0x037f | (numbers[0] as u16) << 10);
        let found = match name {
            "f2xm1" => f2xm1(control, a).value,
            "fsin" => fsin(control, a).value,
            "fcos" => fcos(control, a).value,
            "fptan" => fptan(control, a).value.replaced,
            "fyl2x" => fyl2x(control, a, b).value,
            "fyl2xp1" => fyl2xp1(control, a, b).value,
            "fpatan" => fpatan(control, a, b).value,
            other => panic!("no function {other}"),
        };
        assert_eq!(found, expected, "{line}");
    }
}

//! GRUB's configuration, as far as it names a kernel.
//!
//! `grub-mkconfig` writes a script, but what it writes of kernels is plain:
//!
//! ```text
//! menuentry 'Debian GNU/Linux' ... {
//!     linux   /boot/vmlinuz-6.1.0-48-amd64 root=UUID=... ro quiet
//!     initrd  /boot/initrd.img-6.1.0-48-amd64
//! }
//! ```
//!
//! The first entry is what a machine boots by itself.

use super::Choice;

/// The first kernel that the configuration `text` boots.
pub(super) fn first(text: &[u8]) -> Option<Choice> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("menuentry"));
    let kernel = lines.find_map(|line| arguments(line, &["linux", "linux16", "linuxefi"]))?;
    let initrd = lines
        .take_while(|line| !line.starts_with('}'))
        .find_map(|line| arguments(line, &["initrd", "initrd16", "initrdefi"]));
    let mut words = kernel.split_ascii_whitespace();
    let path = path(words.next()?)?;
    // What stands in variables is for GRUB's own purposes.
    let words: Vec<&str> = words.filter(|word| !word.contains('$')).collect();
    Some(Choice {
        kernel: path,
        initrd: match initrd {
            Some(rest) => Some(self::path(rest.split_ascii_whitespace().next()?)?),
            None => None,
        },
        append: Some(words.join(" ")),
    })
}

/// What follows one of `commands` in `line`.
fn arguments<'a>(line: &'a str, commands: &[&str]) -> Option<&'a str> {
    let (command, rest) = line.split_once([' ', '\t'])?;
    commands.contains(&command).then_some(rest)
}

/// A path without the device before it: `($root)/boot/x` is `/boot/x`.
fn path(word: &str) -> Option<String> {
    let path = match word.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => word,
    };
    path.starts_with('/').then(|| path.to_owned())
}

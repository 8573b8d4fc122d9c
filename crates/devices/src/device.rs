//! What every device can do.

use minicbor::{Decode, Encode};

/// A saved state that no device could have been in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of the {device} is damaged: {what}")]
pub struct Damaged {
    /// Which device.
    pub device: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A device. The board holds only these, so one that cannot be saved does not
/// compile; and each `save` takes its device apart by name, so that a register
/// that was forgotten doesn't either.
pub trait Device {
    /// What it is saved as: numbered fields, so that later versions may add.
    type State: Encode<()> + for<'b> Decode<'b, ()>;

    /// Its whole state. Saving changes nothing.
    fn save(&self) -> Self::State;

    /// Takes on a state that [`Device::save`] gave.
    fn restore(&mut self, state: Self::State) -> Result<(), Damaged>;

    /// When it wants [`Device::alarm`] next, in ns of guest time; `None`: not
    /// until something else happens to it.
    fn deadline_ns(&self) -> Option<u64>;

    /// It is `now_ns`, and a deadline may have been reached. Afterwards the
    /// next deadline lies after `now_ns`.
    fn alarm(&mut self, now_ns: u64);
}

/// `Err` naming `device` unless `holds`.
pub(crate) fn check(holds: bool, device: &'static str, what: &'static str) -> Result<(), Damaged> {
    if holds {
        Ok(())
    } else {
        Err(Damaged { device, what })
    }
}

/// Tests that every device's own tests call.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Saves `device`, restores into `fresh`, saves again: the bytes are equal.
    pub(crate) fn assert_comes_back<D: Device>(device: &D, mut fresh: D) {
        let bytes = minicbor::to_vec(device.save()).expect("a vector takes every byte");
        let state = minicbor::decode(&bytes).expect("it was just encoded");
        fresh.restore(state).expect("a device's own state");
        let again = minicbor::to_vec(fresh.save()).expect("a vector takes every byte");
        assert_eq!(bytes, again);
        assert_eq!(device.deadline_ns(), fresh.deadline_ns());
    }
}

//! The state of the board, saved: every device's and the clock's.

use devices::virtio::state::{BlockState, NetState, RngState, TransportState};
use devices::{Damaged, Device, state};
use minicbor::{Decode, Encode};

use crate::board::Board;
use crate::clock::ClockState;
use crate::{Clock, Error};

#[derive(Encode, Decode)]
#[cbor(map)]
struct BoardState {
    #[n(0)]
    clock: ClockState,
    #[n(1)]
    local: state::LocalApicState,
    #[n(2)]
    ioapic: state::IoApicState,
    #[n(3)]
    pics: state::PicsState,
    #[n(4)]
    pit: state::PitState,
    #[n(5)]
    rtc: state::RtcState,
    #[n(6)]
    uart: state::UartState,
    #[n(7)]
    keyboard: state::KeyboardState,
    #[n(8)]
    power: state::PowerState,
    #[n(9)]
    disks: Vec<TransportState<BlockState>>,
    #[n(10)]
    resets: u64,
    #[n(11)]
    nics: Vec<TransportState<NetState>>,
    #[n(12)]
    rng: Option<TransportState<RngState>>,
    #[n(13)]
    uart2: Option<state::UartState>,
}

/// The state of `board` as bytes (CBOR, numbered fields).
pub(crate) fn save(board: &Board) -> Vec<u8> {
    let state = BoardState {
        clock: board.clock.save(),
        local: board.local.save(),
        ioapic: board.ioapic.save(),
        pics: board.pics.save(),
        pit: board.pit.save(),
        rtc: board.rtc.save(),
        uart: board.uart.save(),
        keyboard: board.keyboard.save(),
        power: board.power.save(),
        disks: board.disks.iter().map(Device::save).collect(),
        resets: board.resets,
        nics: board.nics.iter().map(Device::save).collect(),
        rng: board.rng.as_ref().map(Device::save),
        uart2: board.uart2.as_ref().map(Device::save),
    };
    minicbor::to_vec(state).expect("a vector takes every byte")
}

/// Puts the state that [`save`] gave as `bytes` in place of `board`'s.
pub(crate) fn restore(board: &mut Board, bytes: &[u8]) -> Result<(), Error> {
    let state: BoardState = minicbor::decode(bytes).map_err(|source| Error::State {
        reason: source.to_string(),
    })?;
    let damaged = |damaged: Damaged| Error::State {
        reason: damaged.to_string(),
    };
    board.clock = Clock::restore(&state.clock);
    board.resets = state.resets;
    board.local.restore(state.local).map_err(damaged)?;
    board.ioapic.restore(state.ioapic).map_err(damaged)?;
    board.pics.restore(state.pics).map_err(damaged)?;
    board.pit.restore(state.pit).map_err(damaged)?;
    board.rtc.restore(state.rtc).map_err(damaged)?;
    board.uart.restore(state.uart).map_err(damaged)?;
    board.keyboard.restore(state.keyboard).map_err(damaged)?;
    board.power.restore(state.power).map_err(damaged)?;
    restore_all(&mut board.disks, state.disks, "disks").map_err(damaged)?;
    restore_all(&mut board.nics, state.nics, "network cards").map_err(damaged)?;
    let uart2 = state.uart2.into_iter().collect();
    restore_all(board.uart2.as_mut_slice(), uart2, "second serial ports").map_err(damaged)?;
    let rng = state.rng.into_iter().collect();
    restore_all(board.rng.as_mut_slice(), rng, "sources of entropy").map_err(damaged)
}

/// Restores devices of which a machine may have several.
fn restore_all<D: Device>(
    devices: &mut [D],
    states: Vec<D::State>,
    device: &'static str,
) -> Result<(), Damaged> {
    if devices.len() != states.len() {
        let what = "there are more or fewer of them than in this machine";
        return Err(Damaged { device, what });
    }
    let mut pairs = devices.iter_mut().zip(states);
    pairs.try_for_each(|(device, state)| device.restore(state))
}

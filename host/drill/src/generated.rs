//! Files that are made when they are needed: cut, changed, nested, or so large that nobody would carry them.

use std::iter::repeat_n;

use crate::attack;
use crate::guests;

/// What every component and every module begins with.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Sections.
const CUSTOM: u8 = 0;
const MODULE_IN_COMPONENT: u8 = 1;
const COMPONENT_IN_COMPONENT: u8 = 4;
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

/// A function without parameters and results.
const NOTHING_TO_NOTHING: &[u8] = &[1, 0x60, 0, 0];

/// Functions of the module that has too many, and levels of the component that is too deep.
const FUNCTIONS_MANY: u32 = 1_000_001;
const LEVELS_MANY: usize = 1_000;
/// Of the compiler's bomb: functions, and branches of each one's table, within what a validator lets pass.
const BOMB_FUNCTIONS: u32 = 40;
const BOMB_BLOCKS: usize = 400;
const BOMB_TABLES: usize = 300;

fn honest() -> Vec<u8> {
    guests::written("honest").map(|guest| guest.component.to_vec()).unwrap_or_default()
}

pub(crate) fn nothing() -> Vec<u8> {
    Vec::new()
}

pub(crate) fn script() -> Vec<u8> {
    b"#!/bin/sh\nexec /bin/sh -i\n".to_vec()
}

pub(crate) fn core_module() -> Vec<u8> {
    MODULE.to_vec()
}

pub(crate) fn half() -> Vec<u8> {
    let mut whole = honest();
    whole.truncate(whole.len() / 2);
    whole
}

/// Another kind of plugin than its manifest says.
pub(crate) fn another_kind() -> Vec<u8> {
    guests::built("agent").map(|guest| guest.component.to_vec()).unwrap_or_default()
}

/// An honest component with so many of its bits flipped, the same ones each time.
fn flipped(seed: u64, times: usize) -> Vec<u8> {
    let mut bytes = honest();
    let mut state = seed;
    for _ in 0..times {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap_or_default() % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (state & 7);
        }
    }
    bytes
}

pub(crate) fn flipped_1() -> Vec<u8> {
    flipped(1, 1)
}

pub(crate) fn flipped_2() -> Vec<u8> {
    flipped(2, 4)
}

pub(crate) fn flipped_3() -> Vec<u8> {
    flipped(3, 16)
}

pub(crate) fn flipped_4() -> Vec<u8> {
    flipped(4, 64)
}

/// A custom section as large as the largest component may be.
pub(crate) fn large_section() -> Vec<u8> {
    let mut whole = honest();
    let body: Vec<u8> =
        [1, b'x'].into_iter().chain(repeat_n(0, chela_sandbox::Config::COMPONENT_BYTES_MAX)).collect();
    section(&mut whole, CUSTOM, &body);
    whole
}

/// A module with more functions than any engine takes.
pub(crate) fn many_functions() -> Vec<u8> {
    let count = usize::try_from(FUNCTIONS_MANY).unwrap_or_default();
    let mut functions = leb128(FUNCTIONS_MANY);
    functions.extend(repeat_n(0, count));
    let mut code = leb128(FUNCTIONS_MANY);
    code.extend([2, 0, 0x0b].into_iter().cycle().take(3 * count));
    with_module(&functions, &code)
}

/// Components in components.
pub(crate) fn nested() -> Vec<u8> {
    let mut inner = COMPONENT.to_vec();
    for _ in 0..LEVELS_MANY {
        let mut outer = COMPONENT.to_vec();
        section(&mut outer, COMPONENT_IN_COMPONENT, &inner);
        inner = outer;
    }
    let mut whole = honest();
    section(&mut whole, COMPONENT_IN_COMPONENT, &inner);
    whole
}

/// Functions in which each of many tables of branches leads into each of many blocks: valid, and a graph that no
/// compiler likes.
pub(crate) fn bomb() -> Vec<u8> {
    let count = usize::try_from(BOMB_FUNCTIONS).unwrap_or_default();
    let mut functions = leb128(BOMB_FUNCTIONS);
    functions.extend(repeat_n(0, count));
    let body = bomb_body();
    let mut code = leb128(BOMB_FUNCTIONS);
    for _ in 0..count {
        code.extend(sized(&body));
    }
    with_module(&functions, &code)
}

/// One local; blocks around blocks, and between their ends tables that lead to all of them.
fn bomb_body() -> Vec<u8> {
    const BLOCK: [u8; 2] = [0x02, 0x40];
    const END: u8 = 0x0b;
    /// The local's value, counted on: no two places hold the same.
    const NEXT: [u8; 7] = [0x20, 0, 0x41, 1, 0x6a, 0x22, 0];
    let mut body = vec![1, 1, 0x7f];
    for _ in 0..BOMB_BLOCKS {
        body.extend(BLOCK);
    }
    for block in 0..BOMB_BLOCKS {
        let left = BOMB_BLOCKS - block;
        if block < BOMB_TABLES {
            body.extend(NEXT);
            body.push(0x0e);
            body.extend(leb128(u32::try_from(left - 1).unwrap_or_default()));
            (0..left).for_each(|depth| body.extend(leb128(u32::try_from(depth).unwrap_or_default())));
        }
        body.push(END);
    }
    body.push(END);
    body
}

/// The honest component with a module inside that nobody makes an instance of: it is compiled all the same.
fn with_module(functions: &[u8], code: &[u8]) -> Vec<u8> {
    let mut module = MODULE.to_vec();
    section(&mut module, TYPES, NOTHING_TO_NOTHING);
    section(&mut module, FUNCTIONS, functions);
    section(&mut module, CODE, code);
    let mut whole = honest();
    section(&mut whole, MODULE_IN_COMPONENT, &module);
    whole
}

fn section(whole: &mut Vec<u8>, id: u8, body: &[u8]) {
    whole.push(id);
    whole.extend(sized(body));
}

fn sized(body: &[u8]) -> Vec<u8> {
    let mut out = leb128(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(body);
    out
}

fn leb128(mut number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// Asks for what the operator does not give.
pub(crate) fn greedy() -> String {
    attack::manifest(true).replace("optional = ", "").replace("grants = []\n", "grants = ")
}

/// Asks for what no router has.
pub(crate) fn of_another_world() -> String {
    attack::manifest(true).replace("grants = []", "grants = [\"http\"]")
}

/// Has a key that nobody knows: a limit, spelled wrong.
pub(crate) fn misspelt() -> String {
    attack::manifest(true) + "[limit]\nmemory_bytes = 9000000000\n"
}

/// A name that leads out of a folder.
pub(crate) fn path_for_a_name() -> String {
    attack::manifest(true).replace("name = \"drill\"", "name = \"../../etc\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_as_many_bytes_as_they_need() {
        assert_eq!(leb128(0), [0]);
        assert_eq!(leb128(127), [127]);
        assert_eq!(leb128(128), [128, 1]);
        assert_eq!(leb128(624_485), [0xe5, 0x8e, 0x26]);
    }

    #[test]
    fn flips_are_the_same_each_time_and_change_something() {
        assert_eq!(flipped_3(), flipped_3());
        assert_ne!(flipped_1(), honest());
        assert_ne!(flipped_1(), flipped_2());
    }
}

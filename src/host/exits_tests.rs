use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use crate::model::DelayKind;

use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&(u16::try_from(value.len() + 4).unwrap()).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// One struct: version, flags, CPU wait, tid, parent, process.
fn stats(version: u16, flags: u8, wait: u64, ids: [u32; 3]) -> Vec<u8> {
    let mut bytes = vec![0; if version >= TELLS_GROUP { 560 } else { 352 }];
    bytes[..2].copy_from_slice(&version.to_ne_bytes());
    bytes[8] = flags;
    bytes[24..32].copy_from_slice(&wait.to_ne_bytes());
    bytes[128..132].copy_from_slice(&ids[0].to_ne_bytes());
    bytes[132..136].copy_from_slice(&ids[1].to_ne_bytes());
    if version >= TELLS_GROUP {
        bytes[368..372].copy_from_slice(&ids[2].to_ne_bytes());
        bytes[376..384].copy_from_slice(&5_000_u64.to_ne_bytes());
    }
    bytes
}

fn thread(tid: u32, stats: &[u8]) -> Vec<u8> {
    attribute(4, &[attribute(1, &tid.to_ne_bytes()), attribute(3, stats)].concat())
}

fn group(pid: u32, stats: &[u8]) -> Vec<u8> {
    attribute(5, &[attribute(2, &pid.to_ne_bytes()), attribute(3, stats)].concat())
}

fn exit(attributes: &[Vec<u8>]) -> Option<Exit> {
    let mut payload = vec![2, 1, 0, 0];
    payload.extend(attributes.concat());
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(u32::try_from(payload.len() + 16).unwrap()).to_ne_bytes());
    bytes.extend_from_slice(&31_u16.to_ne_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend(payload);
    messages(&bytes).next().unwrap().ok().as_ref().and_then(Exit::of)
}

/// Process and CPU wait of what is final about a process.
fn told(attributes: &[Vec<u8>]) -> Option<(u32, u64)> {
    exit(attributes)?.final_totals().map(|(pid, totals)| (pid, totals.delay_ns.get(DelayKind::Cpu).unwrap()))
}

#[test]
fn the_end_of_a_process_that_never_had_a_second_thread() {
    let attributes = [thread(9, &stats(16, 0x20, 70, [9, 1, 9]))];
    assert_eq!(told(&attributes), Some((9, 70)));
    let found = exit(&attributes).unwrap();
    assert_eq!((found.process, found.parent, found.age_us, found.last), (Some(9), Some(1), Some(5_000), Some(true)));
}

#[test]
fn the_end_of_a_thread_is_not_the_end_of_its_process() {
    assert_eq!(told(&[thread(9, &stats(16, 0, 70, [9, 1, 9]))]), None);
    assert_eq!(told(&[thread(10, &stats(16, 0x10, 70, [10, 1, 9]))]), None);
}

#[test]
fn the_last_thread_of_several_brings_the_whole_process() {
    let last = thread(11, &stats(16, 0x20, 70, [11, 1, 9]));
    assert_eq!(told(&[last, group(9, &stats(16, 0, 500, [0, 0, 0]))]), Some((9, 500)));
}

#[test]
fn before_5_19_only_a_group_s_block_tells() {
    let alone = exit(&[thread(9, &stats(10, 0, 70, [9, 1, 0]))]).unwrap();
    assert_eq!((alone.final_totals(), alone.process, alone.last, alone.age_us), (None, None, None, None));
    // The group's block of 5.10 carries version 0.
    let last = [thread(11, &stats(10, 0, 70, [11, 1, 0])), group(9, &stats(0, 0, 500, [0, 0, 0]))];
    assert_eq!(told(&last), Some((9, 500)));
}

#[test]
fn a_message_without_a_thread_is_none() {
    assert_eq!(exit(&[]), None);
    assert_eq!(exit(&[group(9, &stats(16, 0, 500, [0, 0, 0]))]), None);
}

fn proc() -> Root {
    Root::open(Path::new("/proc")).unwrap()
}

/// `None` where this host or user may not listen; why is printed.
fn listener(buffer: usize) -> Option<ExitListener> {
    ExitListener::with_buffer(&proc(), buffer).inspect_err(|error| println!("not listening here: {error}")).ok()
}

/// Processes that end at once, of which this many are begun and waited for; their ids.
fn short_lived(count: usize) -> HashSet<u32> {
    let one = |_| {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    (0..count).map(one).collect()
}

#[test]
fn every_exit_is_told_with_its_parent() {
    let Some(mut listener) = listener(BUFFER) else { return };
    let ours = short_lived(200);
    let mut ended = HashSet::new();
    let received = listener
        .take(|exit| {
            if let Some((pid, totals)) = exit.final_totals().filter(|(pid, _)| ours.contains(pid)) {
                assert_eq!(exit.parent, Some(std::process::id()));
                // The run time may be 0: it is brought up to date by ticks and switches only, and lacks what came after.
                assert!(totals.run_ns.is_some() && exit.age_us.unwrap() > 0, "{exit:?}");
                ended.insert(pid);
            }
        })
        .unwrap();
    assert_eq!(ended, ours);
    assert!(!received.overrun && received.unreadable == 0, "{received:?}");
    assert_eq!(listener.lost(&proc()), Some(0));
}

/// All forks of this node less the growth of the living: its exits.
fn exits_of_the_node() -> i64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let forks: i64 = stat.lines().find_map(|line| line.strip_prefix("processes ")).unwrap().trim().parse().unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let alive: i64 = load.split_ascii_whitespace().nth(3).unwrap().split('/').nth(1).unwrap().parse().unwrap();
    forks - alive
}

#[test]
fn what_does_not_fit_the_buffer_is_counted_as_lost() {
    let Some(mut listener) = listener(32 << 10) else { return };
    listener.take(|_| ()).unwrap();
    let (lost_before, before) = (listener.lost(&proc()).unwrap(), exits_of_the_node());
    let ours = short_lived(300);
    let exits = exits_of_the_node() - before;
    let mut received = Received::default();
    let mut seen = 0;
    loop {
        let round = listener.take(|exit| seen += usize::from(exit.final_totals().is_some_and(|(pid, _)| ours.contains(&pid)))).unwrap();
        received.overrun |= round.overrun;
        received.exits += round.exits;
        if round.exits == 0 {
            break;
        }
    }
    let lost = listener.lost(&proc()).unwrap() - lost_before;
    assert!(received.overrun && lost > 0, "{received:?}");
    assert!(seen < ours.len() && ours.len() - seen <= usize::try_from(lost).unwrap(), "{seen} seen, {lost} lost");
    // Others of this node begin and end between the looks at its counters.
    let counted = i64::try_from(received.exits + lost).unwrap();
    println!("{} received + {lost} lost, {exits} in truth", received.exits);
    assert!((counted - exits).abs() <= 40 + exits / 20, "{} received + {lost} lost against {exits}", received.exits);
}

#[test]
fn it_can_be_waited_for() {
    let Some(mut listener) = listener(BUFFER) else { return };
    let watch = listener.watch().unwrap();
    short_lived(1);
    assert!(watch.wait(5_000));
    assert!(listener.take(|_| ()).unwrap().exits >= 1);
}

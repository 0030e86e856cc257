//! Against a kernel of our own for what the real one rarely does, and against the real one where it lets us.

use std::collections::VecDeque;

use crate::model::DelayKind;

use super::*;

/// What the wire hands out next.
enum Event {
    Datagram(Vec<u8>),
    Fail(ErrorClass),
}

/// A kernel that answers each question at once, unless told otherwise.
struct Kernel {
    queue: VecDeque<Event>,
    current: Vec<u8>,
    sends: usize,
    /// What becomes of the answer to the question about this pid.
    behaviour: fn(u32, &mut VecDeque<Event>, Vec<u8>),
    fail_send: Option<ErrorClass>,
}

fn plain(_: u32, queue: &mut VecDeque<Event>, answer: Vec<u8>) {
    queue.push_back(Event::Datagram(answer));
}

fn kernel(behaviour: fn(u32, &mut VecDeque<Event>, Vec<u8>)) -> Exchange<Kernel> {
    let wire = Kernel::answering(plain);
    let (mut exchange, facts) = Exchange::open(wire, 1).unwrap();
    assert_eq!((facts.version, facts.len, facts.counting), (16, 560, true));
    exchange.wire.behaviour = behaviour;
    exchange
}

impl Kernel {
    fn answering(behaviour: fn(u32, &mut VecDeque<Event>, Vec<u8>)) -> Self {
        Self { queue: VecDeque::new(), current: Vec::new(), sends: 0, behaviour, fail_send: None }
    }
}

fn error(class: ErrorClass) -> HostError {
    HostError::new(class, Place::Taskstats)
}

fn message(kind: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len() + 16).unwrap().to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend([0; 2]);
    out.extend(seq.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(payload);
    out
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// CPU delay is the pid, so that a mixed-up answer shows; pids from 900 on do not exist.
fn answer_about(seq: u32, pid: u32) -> Vec<u8> {
    if pid >= 900 {
        return message(2, seq, &(-3_i32).to_ne_bytes());
    }
    let mut stats = vec![0; 560];
    stats[..2].copy_from_slice(&16_u16.to_ne_bytes());
    stats[24..32].copy_from_slice(&u64::from(pid).to_ne_bytes());
    stats[72] = 1;
    let nest = [attribute(2, &pid.to_ne_bytes()), attribute(3, &stats)].concat();
    message(31, seq, &[vec![2, 1, 0, 0], attribute(5, &nest)].concat())
}

impl Wire for Kernel {
    fn send(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.sends += 1;
        if let Some(class) = self.fail_send.take() {
            return Err(error(class));
        }
        for question in messages(bytes).map(Result::unwrap) {
            let value = question.attributes().next().unwrap().unwrap();
            if question.kind == 16 {
                let payload = [vec![1, 2, 0, 0], attribute(1, &31_u16.to_ne_bytes())].concat();
                self.queue.push_back(Event::Datagram(message(16, question.seq, &payload)));
            } else {
                let pid = value.number32().unwrap();
                (self.behaviour)(pid, &mut self.queue, answer_about(question.seq, pid));
            }
        }
        Ok(())
    }

    fn receive(&mut self, _: Wait) -> Result<&[u8], HostError> {
        match self.queue.pop_front() {
            Some(Event::Datagram(datagram)) => {
                self.current = datagram;
                Ok(&self.current)
            }
            Some(Event::Fail(class)) => Err(error(class)),
            None => Err(error(ErrorClass::Timeout)),
        }
    }
}

/// Everything told about these pids: the CPU delay, or the class of the error.
fn ask(exchange: &mut Exchange<Kernel>, pids: &[u32]) -> Vec<(u32, Result<u64, ErrorClass>)> {
    let mut told = Vec::new();
    exchange.query(About::Process, pids, |pid, answer| {
        told.push((pid, answer.map(|delays| delays.delay_ns.get(DelayKind::Cpu).unwrap()).map_err(|error| error.class())));
    });
    told.sort_unstable();
    told
}

fn good(pids: impl IntoIterator<Item = u32>) -> Vec<(u32, Result<u64, ErrorClass>)> {
    pids.into_iter().map(|pid| (pid, Ok(u64::from(pid)))).collect()
}

#[test]
fn every_pid_is_told_once_in_batches() {
    let mut exchange = kernel(plain);
    for count in [0, 1, 63, 64, 65, 200] {
        let pids: Vec<u32> = (1..=count).collect();
        let before = exchange.wire.sends;
        assert_eq!(ask(&mut exchange, &pids), good(1..=count));
        assert_eq!(exchange.wire.sends - before, (count as usize).div_ceil(BATCH), "{count}");
    }
}

#[test]
fn a_missing_process_is_gone_and_the_rest_is_not() {
    let mut exchange = kernel(plain);
    assert_eq!(ask(&mut exchange, &[5, 901, 6]), [(5, Ok(5)), (6, Ok(6)), (901, Err(ErrorClass::Gone))]);
}

#[test]
fn answers_may_come_in_any_order_and_twice() {
    let mut exchange = kernel(|_, queue, answer| {
        queue.push_front(Event::Datagram(answer.clone()));
        queue.push_back(Event::Datagram(answer));
    });
    let pids: Vec<u32> = (1..=64).collect();
    assert_eq!(ask(&mut exchange, &pids), good(1..=64));
    exchange.wire.behaviour = plain;
    // What is left of the first batch is recognised as old.
    assert_eq!(ask(&mut exchange, &[7, 8]), good([7, 8]));
}

#[test]
fn a_full_buffer_loses_answers_but_not_the_socket() {
    let mut exchange = kernel(|pid, queue, answer| match pid {
        1..=20 => queue.push_back(Event::Datagram(answer)),
        21 => queue.push_back(Event::Fail(ErrorClass::Overrun)),
        _ => {}
    });
    let pids: Vec<u32> = (1..=70).collect();
    let told = ask(&mut exchange, &pids);
    assert_eq!(told[..20], good(1..=20));
    let class = |from: usize, to: usize, class| told[from..to].iter().all(|(_, answer)| *answer == Err(class));
    assert!(class(20, 64, ErrorClass::Overrun), "lost with the overrun");
    assert!(class(64, 70, ErrorClass::Timeout), "never answered");
    assert_eq!(exchange.overruns, 1);
    exchange.wire.behaviour = plain;
    assert_eq!(ask(&mut exchange, &pids), good(1..=70));
}

#[test]
fn an_overrun_told_by_send_is_no_failure() {
    let mut exchange = kernel(plain);
    exchange.wire.fail_send = Some(ErrorClass::Overrun);
    assert_eq!(ask(&mut exchange, &[1, 2]), good([1, 2]));
    assert_eq!(exchange.overruns, 1);
}

#[test]
fn a_silent_kernel_is_waited_for_once() {
    let mut exchange = kernel(|_, _, _| {});
    let pids: Vec<u32> = (1..=300).collect();
    let before = exchange.wire.sends;
    let told = ask(&mut exchange, &pids);
    assert_eq!(told.len(), 300);
    assert!(told.iter().all(|(_, answer)| *answer == Err(ErrorClass::Timeout)));
    assert_eq!(exchange.wire.sends - before, 1, "the other batches are not tried");
}

#[test]
fn garbage_spoils_its_own_answer_only() {
    let mut exchange = kernel(|pid, queue, mut answer| {
        match pid {
            // No statistics in it.
            2 => answer = message(31, u32::from_ne_bytes(answer[8..12].try_into().unwrap()), &[2, 1, 0, 0]),
            // About somebody else.
            3 => answer = answer_about(u32::from_ne_bytes(answer[8..12].try_into().unwrap()), 77),
            // An error number no kernel has.
            4 => answer = message(2, u32::from_ne_bytes(answer[8..12].try_into().unwrap()), &i32::MIN.to_ne_bytes()),
            // Not netlink at all: its answer never comes.
            5 => answer = vec![1, 2, 3],
            _ => {}
        }
        queue.push_back(Event::Datagram(answer));
    });
    let told = ask(&mut exchange, &[1, 2, 3, 4, 6]);
    let garbage = Err(ErrorClass::Malformed);
    assert_eq!(told, [(1, Ok(1)), (2, garbage), (3, garbage), (4, garbage), (6, Ok(6))]);
    assert_eq!(ask(&mut exchange, &[1, 5]), [(1, Ok(1)), (5, Err(ErrorClass::Timeout))]);
}

#[test]
fn sequence_numbers_wrap() {
    let mut exchange = kernel(plain);
    exchange.seq = u32::MAX - 3;
    let pids: Vec<u32> = (1..=100).collect();
    assert_eq!(ask(&mut exchange, &pids), good(1..=100));
}

#[test]
fn what_the_kernel_refuses_is_told_at_opening() {
    fn check(number: i32, expected: ErrorClass) {
        struct Refusing(i32, Vec<u8>);
        impl Wire for Refusing {
            fn send(&mut self, bytes: &[u8]) -> Result<(), HostError> {
                let seq = messages(bytes).next().unwrap().unwrap().seq;
                self.1 = message(2, seq, &(-self.0).to_ne_bytes());
                Ok(())
            }
            fn receive(&mut self, _: Wait) -> Result<&[u8], HostError> {
                Ok(&self.1)
            }
        }
        let refused = Exchange::open(Refusing(number, Vec::new()), 1).map(|_| ()).unwrap_err();
        assert_eq!(refused.class(), expected, "{number}");
    }
    check(Errno::NOENT.raw_os_error(), ErrorClass::Unsupported);
    check(Errno::PERM.raw_os_error(), ErrorClass::Denied);
}

/// The real kernel, or why it cannot be asked here (no CAP_NET_ADMIN, another kernel).
fn live() -> Result<Taskstats, ErrorClass> {
    Taskstats::open().map_err(|error| error.class())
}

#[test]
fn the_live_kernel_agrees_with_schedstat_about_a_thread() {
    let mut taskstats = match live() {
        Ok(taskstats) => taskstats,
        Err(class) => return assert!(matches!(class, ErrorClass::Denied | ErrorClass::Unsupported), "{class:?}"),
    };
    // A thread that sleeps: nothing about it changes between the two looks.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
        let _ = held.recv();
    });
    let tid = told.recv().unwrap();
    let path = format!("/proc/self/task/{tid}/");
    // Waiting for it to sleep, with an end to the patience: a running thread's numbers still move.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !std::fs::read_to_string(format!("{path}stat")).unwrap().contains(") S ") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let schedstat = crate::parse::schedstat::schedstat(&std::fs::read(format!("{path}schedstat")).unwrap()).unwrap();
    let mut answers = Vec::new();
    taskstats.query_tids(&[tid], |id, answer| answers.push((id, answer.unwrap())));
    let [(id, delays)] = answers[..] else { panic!("one answer") };
    assert_eq!((id, delays.pid), (tid, Some(tid)));
    assert_eq!(delays.run_ns, Some(schedstat.run_ns));
    assert_eq!(delays.delay_ns.get(DelayKind::Cpu), Some(schedstat.delay_ns));
    assert_eq!(delays.delay_count.get(DelayKind::Cpu), Some(schedstat.timeslices));
    drop(hold);
    thread.join().unwrap();
}

#[test]
fn the_live_kernel_answers_for_every_process_it_shows() {
    let Ok(mut taskstats) = live() else { return };
    let pids: Vec<u32> =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
    let mut told = 0;
    taskstats.query_tgids(&pids, |_, answer| {
        told += 1;
        assert!(answer.is_ok() || answer.is_err_and(|error| error.is_gone()));
    });
    assert_eq!(told, pids.len());
    taskstats.query_tgids(&[u32::MAX >> 2], |_, answer| assert!(answer.unwrap_err().is_gone()));
}

//! Bytes and text that the kernel hands out.

use std::hint::black_box;

use stallspan::parse::{btf as types, cgroup, netlink as framing, node, process, schedstat as task, taskstats as block, taskstats_message};

/// `struct nlmsghdr`
const HEADER: usize = 16;

/// `struct taskstats`: what is told must have been in the bytes, and a longer one tells the same of what both have.
pub fn taskstats(data: &[u8]) {
    let told = block::taskstats(data);
    let mut longer = data.to_vec();
    longer.extend([0xff; 64]);
    if let Ok(told) = told {
        // The version stands in the block: more bytes are a newer kernel's.
        assert!(block::taskstats(&longer).is_ok(), "{told:?}, but nothing with more behind it");
    }
}

/// A datagram: framing, generic attributes, taskstats inside.
pub fn netlink(data: &[u8]) {
    let mut inside = 0;
    for message in framing::messages(data) {
        let Ok(message) = message else { break };
        inside += HEADER + message.payload.len();
        black_box((message.error(), framing::family_id(&message).ok(), taskstats_message::answer(&message).ok()));
        black_box(taskstats_message::blocks(&message).filter(Result::is_ok).count());
        for attribute in message.attributes() {
            let Ok(attribute) = attribute else { break };
            black_box(attribute.number32().ok());
            let nested: usize = attribute.nested().map_while(Result::ok).map(|attribute| attribute.value.len()).sum();
            assert!(nested <= attribute.value.len(), "attributes overlap");
        }
    }
    assert!(inside <= data.len(), "messages overlap");
    requests_are_read_back(data);
}

/// What we send is netlink.
fn requests_are_read_back(data: &[u8]) {
    let value = data.get(..data.len().min(1000)).unwrap_or_default();
    let mut request = Vec::new();
    framing::put_request(&mut request, 29, 7, 1, 3, value);
    let messages: Vec<_> = framing::messages(&request).map(Result::unwrap).collect();
    assert_eq!((messages.len(), messages[0].kind, messages[0].seq), (1, 29, 7));
    let attributes: Vec<_> = messages[0].attributes().map(Result::unwrap).collect();
    assert_eq!((attributes.len(), attributes[0].kind, attributes[0].value), (1, 3, value));
}

/// Text of `/proc`: of a task, and of the node.
pub fn schedstat(data: &[u8]) {
    black_box((task::schedstat(data).ok(), process::process_status(data), node::vmstat(data).minor_faults()));
    black_box((node::boot_time(data), node::netlink_drops(data, 1), node::netlink_drops(data, u64::MAX)));
    for ticks in [0, 1, 100, u64::MAX] {
        black_box(node::irq_ns(data, ticks));
    }
    if let Ok(stat) = process::process_stat(data) {
        assert!(stat.comm_text().chars().all(|character| !character.is_control()), "{stat:?}");
        black_box((stat.is_kernel_thread(), stat.is_zombie()));
    }
    if let Ok(told) = node::proc_schedstat(data) {
        let lines = data.split(|byte| *byte == b'\n').filter(|line| line.trim_ascii_start().starts_with(b"cpu")).count();
        assert!(told.cpus.len() <= lines, "more CPUs than lines: {told:?}");
    }
}

/// Files of a cgroup. All parsers get the text: what is another's is absent.
pub fn cgroup_files(data: &[u8]) {
    use cgroup::{cpu, memory, pressure, tree};
    black_box((cpu::cpu_stat(data), cpu::burst_ns(data), pressure::pressure(data)));
    for ticks in [0, 100, u64::MAX] {
        black_box(cpu::cpuacct_stat(data, ticks));
    }
    let stat = memory::memory_stat(data);
    black_box((stat.minor_faults(), memory::memory_events(data), tree::dying(data), tree::procs(data).count()));
    for usage in [None, Some(0), Some(4096), Some(u64::MAX)] {
        assert!(stat.working_set(usage) <= usage, "{stat:?}");
    }
    for controller in tree::controllers(data) {
        black_box(tree::cgroup_count(data, &controller));
    }
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (one, two) = data.split_at(at);
    black_box(memory::memory_events_v1(one, two));
    let quotas = [cpu::cpu_max(data), cpu::cpu_max(one), cpu::cfs_quota(one, two), cpu::cfs_quota(two, one)];
    for (one, two) in quotas.iter().flatten().zip(quotas.iter().flatten().skip(1)) {
        assert_eq!(one.tighter(*one), *one);
        assert!([*one, *two].contains(&one.tighter(*two)));
    }
}

/// The kernel's types.
pub fn btf(data: &[u8]) {
    let Ok(types) = types::KernelTypes::read(data) else { return };
    for (structure, member) in [("task_struct", "__state"), ("a", "b"), ("", "c")] {
        black_box(types.has_member(structure, member));
    }
    black_box((types.enumerator("cgroup_subsys_id", "cpu_cgrp_id"), types.enumerator("a", "b")));
    for name in ["sched_switch", "a", ""] {
        black_box(types.tracepoint(name));
    }
}

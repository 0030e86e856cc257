//! Containers that stand still, on this kernel.

use std::fs;
use std::path::PathBuf;

use super::live_tests::{Burner, Container, collect, sampler, until};
use crate::config::meaning::Method;
use crate::model::{DelayKind, Subject};
use crate::runtime::clock::{mono_now, wall_now};

/// The same cgroup in the hierarchy that counts CPU time, where that is another one; removed at the end.
struct Accounted(Option<PathBuf>);

impl Accounted {
    fn of(container: &Container) -> Self {
        let dir = PathBuf::from("/sys/fs/cgroup/cpuacct").join(container.dir().file_name().unwrap());
        let elsewhere = dir.parent().unwrap().join("cgroup.procs").exists() && !dir.exists();
        Self(elsewhere.then(|| {
            fs::create_dir(&dir).unwrap();
            dir
        }))
    }

    fn take(&self, burner: &Burner) {
        if let Some(dir) = &self.0 {
            fs::write(dir.join("cgroup.procs"), burner.0.id().to_string()).unwrap();
        }
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            until("the cgroup is empty", || fs::remove_dir(dir).is_ok());
        }
    }
}

#[test]
fn who_stands_still_is_not_asked_yet_covered_and_who_wakes_is_heard_at_once() {
    let mut sampler = sampler(Method::Taskstats);
    collect(&mut sampler);
    let container = Container::new();
    let accounted = Accounted::of(&container);
    // Works once for every line that it is sent.
    let mut sleeper = Burner::new("while read line; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done");
    container.take(&sleeper.0);
    accounted.take(&sleeper);
    let mut key = None;
    until("the container is known by its cgroup", || {
        collect(&mut sampler);
        key = container.key(&sampler.node);
        key.is_some_and(|key| sampler.roster.cells[&key].usage_ns().is_some())
    });
    let key = key.unwrap();
    until("nobody has come for a while, and it stands still", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        collect(&mut sampler);
        sampler.stands_still(key).is_some()
    });
    // From one reading to the next, nothing was asked and nothing is missing.
    let (start, before) = (wall_now(), sleeper.schedstat());
    let asked = sampler.asked;
    sampler.refresh(key, true);
    let begin = mono_now();
    until("time passes", || mono_now().since(begin) > 50_000_000);
    let end = wall_now();
    sampler.refresh(key, true);
    assert_eq!(sampler.asked, asked, "a container that stands still was asked");
    sampler.flush();
    for subject in [Subject::Container(key), Subject::Process(sleeper.key(&sampler.node).unwrap())] {
        let window = sampler.node.history().window(subject, start, end);
        assert_eq!((window.delay_ns.get(DelayKind::Cpu), window.run_ns), (Some(0), Some(0)), "{window:?}");
        assert!(window.coverage > 0.99, "{window:?}");
    }
    // Whoever asks is answered by the kernel all the same.
    sampler.read_container(key, true);
    assert!(sampler.asked > asked);
    // It wakes.
    std::io::Write::write_all(sleeper.0.stdin.as_mut().unwrap(), b"go\n").unwrap();
    until("it has worked, and sleeps", || {
        let (_, ran) = sleeper.schedstat();
        let stat = fs::read_to_string(format!("/proc/{}/stat", sleeper.0.id())).unwrap();
        ran > before.1 + 5_000_000 && stat.contains(") S ")
    });
    let (waited, ran) = sleeper.schedstat();
    sampler.refresh(key, true);
    sampler.flush();
    let window = sampler.node.history().window(Subject::Container(key), start, wall_now());
    let totals = sampler.roster.cells[&key].account.totals(sampler.supplied);
    assert!(totals.run_ns.unwrap() >= ran - before.1 && waited >= before.0, "{totals:?} {ran} {before:?}");
    assert!(window.coverage > 0.5, "{window:?}");
}

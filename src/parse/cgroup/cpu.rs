//! `cpu.stat`, `cpu.stat.local`, quota and `cpuacct` files. Version 2 counts in microseconds, version 1 in nanoseconds;
//! the key tells which (kernel/sched/core.c, kernel/cgroup/rstat.c, kernel/sched/cpuacct.c).

use super::super::text::{number, pairs, words};

const NS_PER_US: u64 = 1000;
const NS_PER_S: u64 = 1_000_000_000;

/// `cpu.stat` of either version. Version 2 has the usage lines always, the others only with the cpu controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// CPU time, ns.
    pub usage_ns: Option<u64>,
    /// In user mode, ns.
    pub user_ns: Option<u64>,
    /// In system mode, ns.
    pub system_ns: Option<u64>,
    /// Quota periods in which the group was active.
    pub periods: Option<u64>,
    /// Of them, those in which it was throttled.
    pub throttled_periods: Option<u64>,
    /// Time throttled by its own quota, summed over CPUs, ns; a throttle in progress is not in it.
    pub throttled_ns: Option<u64>,
}

/// Reads `cpu.stat`, or `cpu.stat.local` (whose only line is the throttled time under own and ancestors' quota).
#[must_use]
pub fn cpu_stat(text: &[u8]) -> CpuStat {
    let mut stat = CpuStat::default();
    for (key, value) in pairs(text) {
        let us = value.checked_mul(NS_PER_US);
        match key {
            b"usage_usec" => stat.usage_ns = us,
            b"user_usec" => stat.user_ns = us,
            b"system_usec" => stat.system_ns = us,
            b"nr_periods" => stat.periods = Some(value),
            b"nr_throttled" => stat.throttled_periods = Some(value),
            b"throttled_usec" => stat.throttled_ns = us,
            b"throttled_time" => stat.throttled_ns = Some(value),
            _ => {}
        }
    }
    stat
}

/// A CPU quota as it stands in one cgroup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quota {
    /// `max`, or -1 in version 1.
    Unlimited,
    /// CPUs: quota ÷ period.
    Cpus(f64),
}

impl Quota {
    /// The tighter of two.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unlimited, other) => other,
            (own, Self::Unlimited) => own,
            (Self::Cpus(own), Self::Cpus(other)) => Self::Cpus(own.min(other)),
        }
    }

    /// CPUs, where limited.
    #[must_use]
    pub const fn cpus(self) -> Option<f64> {
        match self {
            Self::Unlimited => None,
            Self::Cpus(cpus) => Some(cpus),
        }
    }
}

/// `cpu.max`: `max 100000` or `<quota> <period>` in microseconds.
#[must_use]
pub fn cpu_max(text: &[u8]) -> Option<Quota> {
    let mut words = words(text);
    let (quota, period) = (words.next()?, number(words.next()?)?);
    if quota == b"max" { Some(Quota::Unlimited) } else { limited(number(quota)?, period) }
}

/// `cpu.cfs_quota_us` (-1 is none) and `cpu.cfs_period_us`.
#[must_use]
pub fn cfs_quota(quota: &[u8], period: &[u8]) -> Option<Quota> {
    let quota = words(quota).next()?;
    if quota.first() == Some(&b'-') {
        return Some(Quota::Unlimited);
    }
    limited(number(quota)?, number(words(period).next()?)?)
}

fn limited(quota_us: u64, period_us: u64) -> Option<Quota> {
    // The kernel allows periods of 1 ms to 1 s and quotas below 2^44 µs; beyond 32 and 44 bits is no quota.
    let period = u32::try_from(period_us).ok().filter(|period| *period > 0)?;
    let whole = u32::try_from(quota_us.checked_div(u64::from(period))?).ok()?;
    let rest = u32::try_from(quota_us.checked_rem(u64::from(period))?).ok()?;
    Some(Quota::Cpus(f64::from(whole) + f64::from(rest) / f64::from(period)))
}

/// `cpu.max.burst`, `cpu.cfs_burst_us`: microseconds, as nanoseconds.
#[must_use]
pub fn burst_ns(text: &[u8]) -> Option<u64> {
    super::super::text::single(text)?.checked_mul(NS_PER_US)
}

/// `cpuacct.stat`: (user, system) in clock ticks (`USER_HZ`), as nanoseconds.
#[must_use]
pub fn cpuacct_stat(text: &[u8], clock_ticks: u64) -> (Option<u64>, Option<u64>) {
    let (mut user, mut system) = (None, None);
    let tick_ns = NS_PER_S.checked_div(clock_ticks);
    for (key, ticks) in pairs(text) {
        let ns = tick_ns.and_then(|tick| ticks.checked_mul(tick));
        match key {
            b"user" => user = ns,
            b"system" => system = ns,
            _ => {}
        }
    }
    (user, system)
}

/// `cpu.weight`, or `cpu.shares` (1024 being the default's 100) on version 1.
#[must_use]
pub fn weight(weight: &[u8], shares: &[u8]) -> Option<f64> {
    let of = |text: &[u8]| super::super::text::single(text).and_then(|value| u32::try_from(value).ok()).map(f64::from);
    of(weight).or_else(|| of(shares).map(|shares| shares * 100.0 / 1024.0))
}

/// How many CPUs a list like `0-3,8` names (`%*pbl`, lib/vsprintf.c). `None` where it names none or is no such list.
#[must_use]
pub fn cpu_count(text: &[u8]) -> Option<u32> {
    let list = words(text).next()?;
    list.split(|byte| *byte == b',').try_fold(0_u32, |count, range| {
        let mut edges = range.splitn(2, |byte| *byte == b'-');
        let first = super::super::text::number32(edges.next()?)?;
        let last = edges.next().map_or(Some(first), super::super::text::number32)?;
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_two_counts_in_microseconds() {
        let text = b"usage_usec 3000\nuser_usec 1000\nsystem_usec 2000\nnice_usec 0\ncore_sched.force_idle_usec 0\n\
                     nr_periods 50\nnr_throttled 49\nthrottled_usec 3864000\nnr_bursts 0\nburst_usec 0\n";
        let expected = CpuStat {
            usage_ns: Some(3_000_000),
            user_ns: Some(1_000_000),
            system_ns: Some(2_000_000),
            periods: Some(50),
            throttled_periods: Some(49),
            throttled_ns: Some(3_864_000_000),
        };
        assert_eq!(cpu_stat(text), expected);
    }

    #[test]
    fn version_one_counts_in_nanoseconds() {
        let stat = cpu_stat(b"nr_periods 4\nnr_throttled 3\nthrottled_time 2694000000\nwait_sum 5\nnr_bursts 0\nburst_time 0\n");
        assert_eq!((stat.periods, stat.throttled_periods, stat.throttled_ns), (Some(4), Some(3), Some(2_694_000_000)));
        assert_eq!(stat.usage_ns, None);
    }

    #[test]
    fn what_is_not_there_is_unknown() {
        assert_eq!(cpu_stat(b""), CpuStat::default());
        assert_eq!(cpu_stat(b"usage_usec 18446744073709551615\n").usage_ns, None, "does not fit in ns");
        assert_eq!(cpu_stat(b"usage_usec -5\nnr_periods 1").periods, Some(1));
        assert_eq!(cpu_stat(b"throttled_usec 7\n"), CpuStat { throttled_ns: Some(7000), ..CpuStat::default() });
    }

    #[test]
    fn quotas_of_both_versions() {
        fn check(text: &str, expected: Option<Quota>) {
            assert_eq!(cpu_max(text.as_bytes()), expected, "{text}");
        }
        check("max 100000\n", Some(Quota::Unlimited));
        check("20000 100000\n", Some(Quota::Cpus(0.2)));
        check("250000 100000\n", Some(Quota::Cpus(2.5)));
        check("20000 0\n", None);
        check("20000\n", None);
        check("max\n", None);
        check("99999999999999999999 100000\n", None);
        check("18446744073709551615 1\n", None);
        check("", None);

        fn check_v1(quota: &str, period: &str, expected: Option<Quota>) {
            assert_eq!(cfs_quota(quota.as_bytes(), period.as_bytes()), expected, "{quota} {period}");
        }
        check_v1("-1\n", "100000\n", Some(Quota::Unlimited));
        check_v1("50000\n", "100000\n", Some(Quota::Cpus(0.5)));
        check_v1("50000\n", "", None);
        check_v1("", "100000\n", None);
    }

    #[test]
    fn the_tighter_quota_wins() {
        let (half, two) = (Quota::Cpus(0.5), Quota::Cpus(2.0));
        assert_eq!(half.tighter(two), half);
        assert_eq!(two.tighter(half), half);
        assert_eq!(Quota::Unlimited.tighter(two), two);
        assert_eq!(two.tighter(Quota::Unlimited), two);
        assert_eq!(Quota::Unlimited.tighter(Quota::Unlimited).cpus(), None);
    }

    #[test]
    fn lists_of_cpus_and_weights() {
        for (list, expected) in [
            ("0-3,8\n", Some(5)),
            ("7\n", Some(1)),
            ("0-1,4-5,9\n", Some(5)),
            ("\n", None),
            ("", None),
            ("3-1\n", None),
            ("0-\n", None),
            ("a\n", None),
            ("0,,1\n", None),
            ("0-4294967295\n", None),
            ("0-4294967294,1\n", None),
        ] {
            assert_eq!(cpu_count(list.as_bytes()), expected, "{list}");
        }
        assert_eq!((weight(b"250\n", b""), weight(b"", b"2048\n"), weight(b"", b"x")), (Some(250.0), Some(200.0), None));
    }

    #[test]
    fn ticks_and_bursts() {
        assert_eq!(cpuacct_stat(b"user 150\nsystem 3\n", 100), (Some(1_500_000_000), Some(30_000_000)));
        assert_eq!(cpuacct_stat(b"user 150\n", 0), (None, None));
        assert_eq!(cpuacct_stat(b"system x\n", 100), (None, None));
        assert_eq!(burst_ns(b"2000\n"), Some(2_000_000));
        assert_eq!(burst_ns(b"max\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(key in proptest::sample::select(vec!["usage_usec", "throttled_time", "user", "max", "5"]), value in "[0-9]{0,22}", rest in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = [format!("{key} {value}\n").as_bytes(), &rest].concat();
            let _ = (cpu_count(&text), cpu_count(&rest), weight(&text, &rest), cpu_stat(&text), cpu_max(&text), cfs_quota(&text, &rest), cpuacct_stat(&text, 100), burst_ns(&text));
        }

        #[test]
        fn a_quota_is_quota_over_period(quota in 1u64..1 << 44, period in 1000u64..1_000_000) {
            let cpus = cpu_max(format!("{quota} {period}\n").as_bytes()).and_then(Quota::cpus);
            let exact = quota as f64 / period as f64;
            if let Some(cpus) = cpus {
                prop_assert!((cpus - exact).abs() <= exact * 1e-12);
            } else {
                prop_assert!(exact > f64::from(u32::MAX));
            }
        }
    }
}

//! Why the programs cannot be used, in a user's words.

use aya::programs::ProgramError;

use crate::model::Absence;

/// Lines of the verifier's log that are told: the last ones name the reason.
const VERIFIER_LINES: usize = 12;

/// Why there is no eBPF source, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The kernel has no description of its types.
    #[error("the kernel's types are not known: {0}")]
    Types(String),
    /// The kernel lacks what the programs need.
    #[error("this kernel is not fit for the programs: {0}")]
    Kernel(String),
    /// Not permitted.
    #[error("not permitted to {doing}: needs CAP_BPF and CAP_PERFMON, before 5.8 CAP_SYS_ADMIN ({reason})")]
    Denied {
        /// What was tried.
        doing: String,
        /// What the kernel answered.
        reason: String,
    },
    /// The kernel refused a program.
    #[error("the kernel refused the program {program}: {reason}\n{log}")]
    Verifier {
        /// Name of the program.
        program: &'static str,
        /// What the kernel answered.
        reason: String,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// Anything else.
    #[error("cannot {doing}: {reason}")]
    Failed {
        /// What was tried.
        doing: String,
        /// What came back.
        reason: String,
    },
}

impl BpfError {
    /// The word for `stallspan.reason`.
    #[must_use]
    pub const fn absence(&self) -> Absence {
        match self {
            Self::Types(_) => Absence::Absent,
            Self::Kernel(_) | Self::Verifier { .. } => Absence::NotSupported,
            Self::Denied { .. } => Absence::NoPermission,
            Self::Failed { .. } => Absence::Failed,
        }
    }

    /// Sorts an error by its chain: the innermost one is what the kernel answered.
    pub(super) fn of(doing: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut reasons = vec![error.to_string()];
        let mut denied = false;
        let mut at = Some(error);
        while let Some(one) = at {
            let kind = one.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            denied |= kind == Some(std::io::ErrorKind::PermissionDenied);
            let text = one.to_string();
            if !reasons.iter().any(|known| known.contains(&text)) {
                reasons.push(text);
            }
            at = one.source();
        }
        let (doing, reason) = (doing.into(), reasons.join(": "));
        if denied { Self::Denied { doing, reason } } else { Self::Failed { doing, reason } }
    }

    /// A program that could not be loaded or attached.
    pub(super) fn program(program: &'static str, error: &ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = last_lines(&verifier_log.to_string());
                // A refusal comes as EACCES too, but then the verifier has said why.
                if log.is_empty() && io_error.kind() == std::io::ErrorKind::PermissionDenied {
                    return Self::Denied { doing: format!("load the program {program}"), reason: io_error.to_string() };
                }
                Self::Verifier { program, reason: io_error.to_string(), log }
            }
            other => Self::of(format!("use the program {program}"), other),
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(VERIFIER_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_told() {
        let log: String = (0..40).map(|n| format!("line {n}\n\n")).collect();
        let told = last_lines(&log);
        assert_eq!(told.lines().count(), VERIFIER_LINES);
        assert!(told.ends_with("line 39"), "{told}");
        assert_eq!(last_lines(""), "");
    }

    #[test]
    fn a_refusal_deep_inside_is_found() {
        let io = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = aya::sys::SyscallError { call: "bpf_map_create", io_error: io };
        let told = BpfError::of("create the maps", &error);
        assert_eq!(told.absence(), Absence::NoPermission);
        assert!(told.to_string().contains("CAP_BPF"), "{told}");
    }
}

//! The one error type of the crate: a stable code, one line of fact, one line of remedy.
//!
//! A code belongs to a closed set and may leave the room; it also decides the exit code. Fact and remedy are for
//! the person at the terminal. Whatever happens after a row was read is told by code alone where it could depend
//! on one unit: see [`Code::stage`]. Nothing a guest wrote ever enters a fault.

use std::fmt;

/// Result of every fallible step.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// Where in the data path a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request itself is wrong: nothing was looked at.
    Usage,
    /// Refused before any guest ran: by the gate, or because a view is not what was agreed.
    Gate,
    /// The question could not be compiled or run at all.
    Sandbox,
    /// Refused by the privacy controls.
    Privacy,
    /// The result could not be written.
    Destination,
    /// A defect or a failure of this host.
    Internal,
}

impl Stage {
    /// The process exit code of the stage.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Gate => 3,
            Self::Sandbox => 4,
            Self::Privacy => 5,
            Self::Destination => 6,
            Self::Internal => 7,
        }
    }
}

macro_rules! codes {
    ($($stage:ident { $($variant:ident = $text:literal $doc:literal,)+ })+) => {
        /// Why a run was refused or failed. The text form is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc] $variant,)+)+ }

        impl Code {
            /// Every code there is, in the order of the data path.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)+)+];

            /// The stable text form.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => $text,)+)+ }
            }

            /// What the code means, in a line.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$variant => $doc,)+)+ }
            }

            /// The stage that the code belongs to.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $($(Self::$variant => Stage::$stage,)+)+ }
            }
        }
    };
}

codes! {
    Usage {
    Usage = "USAGE" "the command line or the request is wrong",
    RoomInvalid = "ROOM_INVALID" "room.toml is missing, malformed or contradicts itself",
    ConnectionInvalid = "CONNECTION_INVALID" "a connection that a view names is missing on this host, malformed, another party's, or readable by others",
    StoreInvalid = "STORE_INVALID" "the place of the ledger, or what says how to reach it, is malformed, missing, or readable by others",
    KeyExists = "KEY_EXISTS" "the key file or the person's key is there already",
    KeyUnknown = "KEY_UNKNOWN" "the runtime's key is not registered, so no one could verify its receipts",
        KeyUnreadable = "KEY_UNREADABLE" "a key cannot be read: a file is missing or of another form, or an agent does not answer",
        RegistrySigned = "REGISTRY_SIGNED" "the registry's next version is being signed, and a change would void the signatures",
    }
    Gate {
    ManifestInvalid = "MANIFEST_INVALID" "question.toml is malformed, has an unknown field or version, or contradicts itself",
    ComponentInvalid = "COMPONENT_INVALID" "the question is not a WebAssembly component of an accepted shape",
    ComponentImports = "COMPONENT_IMPORTS" "the component imports something; a sealed question may import nothing",
    SlotMissing = "SLOT_MISSING" "a slot of the question has no view bound to it, or a bound slot does not exist",
    ParameterInvalid = "PARAMETER_INVALID" "a parameter is missing, unknown, or outside its declared domain",
    Malformed = "MALFORMED" "a signed file is not of the form that it must have",
    TooLarge = "TOO_LARGE" "a signed file is longer than any honest one",
    SignatureMissing = "SIGNATURE_MISSING" "an envelope has no signature, or more than one",
    SignatureInvalid = "SIGNATURE_INVALID" "a signature verifies with no registered key",
    PayloadType = "PAYLOAD_TYPE" "an envelope holds another kind of document",
    PredicateType = "PREDICATE_TYPE" "a statement says another kind of thing",
    SubjectMismatch = "SUBJECT_MISMATCH" "a statement is not about exactly this document",
    SignerMismatch = "SIGNER_MISMATCH" "someone else signed than the statement says",
    KeyWeak = "KEY_WEAK" "a public key verifies signatures that nobody made",
    KeyNotCanonical = "KEY_NOT_CANONICAL" "a public key is not a point, or not written in its only form",
    KeyNotTorsionFree = "KEY_NOT_TORSION_FREE" "a public key is of mixed order, on which verifiers disagree",
    KeyFormat = "KEY_FORMAT" "a public key file is of no known format",
    KeyDuplicate = "KEY_DUPLICATE" "a public key stands twice in the registry",
    KeyScope = "KEY_SCOPE" "a key is not registered for what it signed",
    KeyExpired = "KEY_EXPIRED" "a key was used outside its window, or after it was retired",
    IdInvalid = "ID_INVALID" "an id is not of the form [a-z0-9._-]",
    PolicyInvalid = "POLICY_INVALID" "a quorum's text is malformed or could never hold",
    RegistryInvalid = "REGISTRY_INVALID" "the key registry is missing, malformed, or not signed as it must be",
    RegistryExpired = "REGISTRY_EXPIRED" "the key registry has expired",
    RegistryRollback = "REGISTRY_ROLLBACK" "the key registry is older than one that was used before, or of another chain",
    AgreementInvalid = "AGREEMENT_INVALID" "the agreement is missing or malformed",
    AgreementExpired = "AGREEMENT_EXPIRED" "the agreement is outside its window of validity",
    AgreementSuperseded = "AGREEMENT_SUPERSEDED" "a later revision that replaces the agreement has been run",
    ApprovalExpired = "APPROVAL_EXPIRED" "an approval is outside its own window",
    ApprovalReplayed = "APPROVAL_REPLAYED" "a person's sequence number stands on two different approvals",
    NotApproved = "NOT_APPROVED" "there is no approval, or one that says something else",
    OwnerMissing = "OWNER_MISSING" "an owner of a bound view, or the recipient, has not approved",
    QuorumMissing = "QUORUM_MISSING" "the quorum of the room's registry is not reached",
    RevocationsMissing = "REVOCATIONS_MISSING" "a party has no fresh list of revocations",
    RevocationsRollback = "REVOCATIONS_ROLLBACK" "a party's list of revocations is older than one that was used before",
    Revoked = "REVOKED" "a party has withdrawn what the run needs",
    RunnerUnknown = "RUNNER_UNKNOWN" "the agreement does not name this runtime as a runner",
    RunsExhausted = "RUNS_EXHAUSTED" "the agreement has been run as often as it allows",
    RunReplayed = "RUN_REPLAYED" "a request with this nonce has been run before",
    PrincipalExpired = "PRINCIPAL_EXPIRED" "the run took longer than its principal may act",
    StateMissing = "STATE_MISSING" "this host does not trust the room, or does not know its log",
    StateRollback = "STATE_ROLLBACK" "the room's log, ledger or state is older than this host has seen",
    LogInvalid = "LOG_INVALID" "the log's checkpoint, tiles or a proof do not verify",
    WitnessMissing = "WITNESS_MISSING" "a checkpoint lacks the cosignatures that the policy demands",
    WorldChanged = "WORLD_CHANGED" "the component's interface is not the one that was agreed",
    ComponentChanged = "COMPONENT_CHANGED" "the component is not the one that was agreed",
    ManifestChanged = "MANIFEST_CHANGED" "the manifest is not the one that was agreed",
    ViewChanged = "VIEW_CHANGED" "a view's definition or schema is not the one that was agreed",
    ControlUnmet = "CONTROL_UNMET" "the question cannot be run under the owners' controls",
    ControlChanged = "CONTROL_CHANGED" "the output controls are not those that were agreed",
    DestinationChanged = "DESTINATION_CHANGED" "the destination is not the one that was agreed",
    ReceiptInvalid = "RECEIPT_INVALID" "the receipt does not verify",
    NotReplayable = "NOT_REPLAYABLE" "a run cannot be replayed: its sealed part is missing, or of another key, or the data is other data",
    ReplayDiffers = "REPLAY_DIFFERS" "a replayed run gives another output",
    ExportFailed = "EXPORT_FAILED" "an agreement cannot be exported",
    RuntimeChanged = "RUNTIME_CHANGED" "this runtime is not the one that was agreed",
    ViewInvalid = "VIEW_INVALID" "a view's SQL is not one SELECT over its own sources",
    ViewUnreadable = "VIEW_UNREADABLE" "a source of a view cannot be opened or read to its end",
    ColumnMissing = "COLUMN_MISSING" "a view lacks a column that the question needs",
    ColumnType = "COLUMN_TYPE" "a view's column has another type than the question needs",
    UnitNull = "UNIT_NULL" "the unit column of a view names nobody in any row",
    UnitShared = "UNIT_SHARED" "a view maps an identifier to more units than was agreed",
    ViewEmpty = "VIEW_EMPTY" "a view has no rows",
    }
    Sandbox {
    CompileFailed = "COMPILE_FAILED" "the component cannot be compiled under the engine's profile",
    ContractMismatch = "CONTRACT_MISMATCH" "the component does not export the interface of its kind",
    TimedOut = "TIMED_OUT" "a unit ran into the wall clock, which ends the whole run",
    WallMissing = "WALL_MISSING" "this host's kernel cannot confine a question as the owners demand",
    SandboxFailed = "SANDBOX_FAILED" "the sandbox itself failed, or a worker process ended",
    ShardsDiffer = "SHARDS_DIFFER" "the parts of a run do not add up to the rows that were read, or a part did not come to its end",
    }
    Privacy {
    BudgetExhausted = "BUDGET_EXHAUSTED" "the run would cost more than is left of the privacy budget",
    TooManyGroups = "TOO_MANY_GROUPS" "the units contributed to more different groups than a run may have",
    ListUnfit = "LIST_UNFIT" "a list has a size that the owners do not allow; only the auditor is told",
    Withheld = "WITHHELD" "no result: the run ended after data was read, and the reason is sealed to the auditor",
    DifferenceTooSmall = "DIFFERENCE_TOO_SMALL" "a released group differs by too few units from one that was released before",
    RunsPaused = "RUNS_PAUSED" "the agreement was run too often today, or has ended without a result too often",
    }
    Destination {
    DestinationExists = "DESTINATION_EXISTS" "the destination already holds a result of that name",
    DestinationFailed = "DESTINATION_FAILED" "the result could not be written to the destination",
    }
    Internal {
    HistoryFailed = "HISTORY_FAILED" "the host's history of earlier releases cannot be read or written",
    LedgerFailed = "LEDGER_FAILED" "the ledger cannot be read or written",
    StoreUnreachable = "STORE_UNREACHABLE" "the server of the ledger cannot be reached, was lost, or does not let this host in",
    ReceiptFailed = "RECEIPT_FAILED" "the receipt could not be written",
    Internal = "INTERNAL" "an unexpected failure of this host",
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal or failure: what is so, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: Code,
    fact: String,
    remedy: String,
}

impl Fault {
    /// Both texts are one line each, lower case, without a full stop.
    pub fn new(code: Code, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, fact: one_line(fact.into()), remedy: one_line(remedy.into()) }
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What is so.
    #[must_use]
    pub fn fact(&self) -> &str {
        &self.fact
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl Fault {
    /// What is wrong with a file that someone signed, with what to do about it.
    pub(crate) fn of(what: &str, denial: &glovebox_trust::Denial, remedy: impl Into<String>) -> Self {
        Self::new(Code::of(denial.reason()), format!("{what}: {}", denial.fact()), remedy)
    }
}

impl Code {
    /// The code of a reason: the same text.
    pub(crate) fn of(reason: glovebox_trust::Reason) -> Self {
        Self::ALL.iter().copied().find(|code| code.as_str() == reason.as_str()).unwrap_or(Self::Malformed)
    }
}

impl From<glovebox_sandbox::Denial> for Fault {
    /// The code of a reason: the same text.
    fn from(denial: glovebox_sandbox::Denial) -> Self {
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == denial.reason().as_str());
        Self::new(code.unwrap_or(Code::SandboxFailed), denial.fact(), denial.remedy())
    }
}

/// Libraries put line breaks and full stops into their messages; a fault keeps to its one line, without a stop.
fn one_line(mut text: String) -> String {
    if text.contains(['\n', '\r']) {
        text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if text.ends_with('.') {
        text.pop();
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\nhint: {}", self.code, self.fact, self.remedy)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_a_denial_has_its_code() {
        for reason in glovebox_trust::Reason::ALL {
            assert_eq!(Code::of(*reason).as_str(), reason.as_str());
        }
        for reason in glovebox_sandbox::Reason::ALL {
            assert!(Code::ALL.iter().any(|code| code.as_str() == reason.as_str()), "{reason:?}");
        }
    }
}

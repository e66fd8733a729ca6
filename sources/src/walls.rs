//! A reader of a folder reaches that folder and nothing else, whatever the table's log names: the kernel sees to that.

use glovebox_source_protocol::RefusalCode;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError,
};

use crate::refuse::{Result, refuse};

/// For this thread and all that it starts: to be called while there is no other.
pub(crate) fn close_all_but_this_folder() -> Result<()> {
    close().map_err(|error| {
        refuse(
            RefusalCode::SourceUnsupported,
            format!("this kernel does not confine a reader to a folder: {error}"),
            "read Delta tables on a kernel that has Landlock",
        )
    })
}

fn close() -> std::result::Result<(), RulesetError> {
    let folder = PathFd::new(".")
        .map_err(|_| RulesetError::CreateRuleset(landlock::CreateRulesetError::MissingHandledAccess))?;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        // Ports are a later kernel's matter; a reader of a folder has no address to go to either way.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?;
    ruleset.add_rule(PathBeneath::new(folder, AccessFs::from_read(ABI::V1)))?.restrict_self()?;
    Ok(())
}

//! Operations in the words of who uses an API.

use crate::model::{
    AppendInput, AppendOutput, Content, Input, Output, RegisterInput, RegisterOutput, SetInput,
    SetOutput, VersionedInput, VersionedOutput,
};

/// Elements of a list or set that are written out; of a longer one these many of its end.
const ELEMENTS_SHOWN_MAX: usize = 12;

/// The verb that a user knows an operation by.
pub(super) fn verb(input: &Input) -> &'static str {
    match input {
        Input::Register(RegisterInput::Read)
        | Input::Append(AppendInput::Read)
        | Input::Bank(VersionedInput::Read)
        | Input::Lease(VersionedInput::Read) => "get",
        Input::Set(SetInput::Read) => "list",
        Input::Register(RegisterInput::Write(_) | RegisterInput::Swap { .. })
        | Input::Bank(VersionedInput::Update { .. })
        | Input::Lease(VersionedInput::Update { .. }) => "update",
        Input::Register(RegisterInput::Patch(_)) => "patch",
        Input::Append(AppendInput::Push(_)) => "append",
        Input::Register(RegisterInput::Create(_))
        | Input::Set(SetInput::Add(_))
        | Input::Bank(VersionedInput::Create(..))
        | Input::Lease(VersionedInput::Create(..)) => "create",
        Input::Register(RegisterInput::Delete) => "delete",
    }
}

/// What was asked for.
pub(super) fn asked(input: &Input) -> String {
    match input {
        Input::Register(RegisterInput::Write(value)) => format!("put {value}"),
        Input::Register(RegisterInput::Patch(value)) => format!("patch to {value}"),
        Input::Register(RegisterInput::Create(value)) => format!("create {value}"),
        Input::Register(RegisterInput::Swap { from, to }) => format!("update {from} → {to}"),
        Input::Append(AppendInput::Push(element)) => format!("append {element}"),
        Input::Set(SetInput::Add(element)) => format!("create {element}"),
        Input::Bank(VersionedInput::Create(serial, content))
        | Input::Lease(VersionedInput::Create(serial, content)) => {
            format!("create {}", versioned(*serial, content))
        }
        Input::Bank(VersionedInput::Update { from, to, content })
        | Input::Lease(VersionedInput::Update { from, to, content }) => {
            format!("update #{from} → {}", versioned(*to, content))
        }
        Input::Register(RegisterInput::Read | RegisterInput::Delete)
        | Input::Append(AppendInput::Read)
        | Input::Set(SetInput::Read)
        | Input::Bank(VersionedInput::Read)
        | Input::Lease(VersionedInput::Read) => verb(input).to_owned(),
    }
}

/// What was told.
pub(super) fn told(output: &Output) -> String {
    match output {
        Output::Register(RegisterOutput::Value(value)) => value.to_string(),
        Output::Append(AppendOutput::Elements(list)) => elements(list.iter()),
        Output::Set(SetOutput::Elements(set)) => elements(set.iter()),
        Output::Set(SetOutput::Twice(element)) => format!("{element} twice"),
        Output::Versioned(VersionedOutput::Is(serial, content)) => versioned(*serial, content),
        Output::Register(RegisterOutput::Absent) | Output::Versioned(VersionedOutput::Absent) => {
            "404 not found".to_owned()
        }
        Output::Register(RegisterOutput::Written)
        | Output::Append(AppendOutput::Pushed)
        | Output::Set(SetOutput::Added)
        | Output::Versioned(VersionedOutput::Written) => "done".to_owned(),
        Output::Register(RegisterOutput::Refused) | Output::Versioned(VersionedOutput::Refused) => {
            "409 conflict".to_owned()
        }
    }
}

fn elements<'a>(all: impl ExactSizeIterator<Item = &'a u64>) -> String {
    let count = all.len();
    let end = all.skip(count.saturating_sub(ELEMENTS_SHOWN_MAX)).map(ToString::to_string);
    let end = end.collect::<Vec<String>>().join(" ");
    match count {
        0..=ELEMENTS_SHOWN_MAX => format!("[{end}]"),
        _ => format!("[{count}, the last {end}]"),
    }
}

fn versioned(serial: u64, content: &Content) -> String {
    match content {
        Content::Balances(balances) => format!("#{serial} {balances:?}"),
        Content::Lease { holder, transitions } if holder.is_empty() => {
            format!("#{serial} nobody's, {transitions}")
        }
        Content::Lease { holder, transitions } => format!("#{serial} {holder}'s, {transitions}"),
    }
}

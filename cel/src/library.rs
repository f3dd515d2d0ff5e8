//! Functions of the extension libraries: `kube-cel`'s, called one at a time.

use std::panic::{self, AssertUnwindSafe};
use std::sync::LazyLock;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{CallExpr, Expr};
use kube_cel::cel::objects::Value;
use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, ExecutionError};

use crate::eval::{Answer, Error};
use crate::value::optional;

static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(|| Context::default().with_all());

/// The names under which values are handed over.
const NAMES: [&str; 5] = ["a0", "a1", "a2", "a3", "a4"];
const TARGET: &str = "t";

fn ident(name: &str) -> Expression {
    Expression { id: 0, expr: Expr::Ident(name.to_owned()) }
}

/// Calls a function with values. A panic in it is an error of the expression.
pub(crate) fn call(name: &str, target: Option<Value>, args: Vec<Value>) -> Answer {
    if args.len() > NAMES.len() {
        return Err(Error::no_overload());
    }
    let work = AssertUnwindSafe(|| {
        let mut context = FUNCTIONS.new_inner_scope();
        let call = CallExpr {
            func_name: name.to_owned(),
            target: target.is_some().then(|| Box::new(ident(TARGET))),
            args: NAMES.iter().take(args.len()).map(|name| ident(name)).collect(),
        };
        if let Some(target) = target {
            context.add_variable_from_value(TARGET, target);
        }
        for (name, arg) in NAMES.iter().zip(args) {
            context.add_variable_from_value(*name, arg);
        }
        context.resolve(&Expression { id: 0, expr: Expr::Call(call) })
    });
    match panic::catch_unwind(work) {
        // By name it may be none.
        Ok(Ok(Value::Null)) if name == "format.named" => Ok(optional(None)),
        Ok(Ok(value)) if name == "format.named" => Ok(optional(Some(value))),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ExecutionError::FunctionError { message, .. })) => Err(Error::Failed(message)),
        Ok(Err(
            ExecutionError::UndeclaredReference(_)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::UnsupportedTargetType { .. }
            | ExecutionError::NotSupportedAsMethod { .. }
            | ExecutionError::InvalidArgumentCount { .. }
            | ExecutionError::ValuesNotComparable(..),
        )) => Err(Error::no_overload()),
        Ok(Err(error)) => Err(Error::Failed(error.to_string())),
        Err(_) => Err(Error::Failed(format!("{name} failed"))),
    }
}

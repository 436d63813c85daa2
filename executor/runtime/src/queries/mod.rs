//! Which queries have work in this process, and how that work is stopped and counted.
//!
//! Neither engine stops a query's work when its reader goes: a worker keeps the plan, and the tasks that
//! the plan spawned run on. So every scan carries its query's token ([`guard`], [`Guard`]) and whoever ends
//! a query cancels it here. The rule: a run is registered before its plan is executed and stays known
//! as long as any of its guarded nodes lives.

mod guard;
mod operators;
mod register;

pub use guard::{CancelExec, Guard, Role, guard};
pub use operators::{merge, operators};
pub use register::{Query, Register, Report};

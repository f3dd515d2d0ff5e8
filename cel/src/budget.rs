//! What evaluation has cost and may still cost.

use crate::limits::{COST_OF_CALL_MAX, COST_OF_REQUEST_MAX};

/// What the expressions of one request may still cost.
#[derive(Debug)]
pub struct Budget {
    /// Left for the request.
    left: u64,
    /// Left for the expression that is evaluated.
    call: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(COST_OF_REQUEST_MAX)
    }
}

impl Budget {
    /// A budget of its own.
    #[must_use]
    pub const fn new(left: u64) -> Self {
        Self { left, call: 0 }
    }

    /// What is left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Begins another expression; gives back what the one before had left, for [`Self::resume`].
    pub(crate) const fn begin(&mut self) -> u64 {
        std::mem::replace(&mut self.call, COST_OF_CALL_MAX)
    }

    /// Goes on with the expression within which another was evaluated (a variable of a policy).
    pub(crate) const fn resume(&mut self, call: u64) {
        self.call = call;
    }

    /// Pays for a step.
    pub(crate) const fn pay(&mut self, cost: u64) -> Result<(), Stop> {
        match self.call.checked_sub(cost) {
            Some(left) => self.call = left,
            None => {
                self.left = self.left.saturating_sub(self.call);
                self.call = 0;
                return Err(Stop::Call);
            }
        }
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                return Err(Stop::Request);
            }
        }
        Ok(())
    }
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// That of the expression.
    Call,
    /// That of the request.
    Request,
}

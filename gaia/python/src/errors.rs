//! Errors as Python has them: `gaia.errors` names the classes, and the texts are the service's own.

use std::error::Error;

use gaia::service::{ConnectError, ServiceError};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The text with those of its causes.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// An error of the class that `gaia.errors` calls `class`.
pub(crate) fn of_class(py: Python<'_>, class: &str, text: String) -> PyErr {
    let found = py.import("gaia.errors").and_then(|errors| errors.getattr(class));
    match found.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
        Ok(class) => PyErr::from_type(class, (text,)),
        Err(error) => error,
    }
}

/// Why a worker cannot connect.
pub(crate) fn of_connect(py: Python<'_>, error: &ConnectError) -> PyErr {
    match error {
        ConnectError::Service(error) => of_service(py, error),
        other => of_class(py, "ConfigError", told(other)),
    }
}

/// Why a connection did not do what it was asked for.
pub(crate) fn of_service(py: Python<'_>, error: &ServiceError) -> PyErr {
    let class = match error {
        ServiceError::NoRow { .. } | ServiceError::NoTable { .. } | ServiceError::Unread { .. } => "RowError",
        ServiceError::DeltaShape { .. } => "ShapeError",
        ServiceError::NoMoreClocks { .. } | ServiceError::ClocksLeft { .. } => "ClockError",
        ServiceError::Ended { .. } => "EndedError",
        error if error.is_divergence() => "DivergedError",
        error if error.is_input() => "ConfigError",
        _ => "ServiceError",
    };
    of_class(py, class, told(error))
}

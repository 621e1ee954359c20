//! Arguments that any object with a buffer can be (PEP 3118): NumPy arrays, `array.array`, memory
//! views. Values are copied once, out of it or into it: Rust may not look at memory that other threads
//! of the program could write to meanwhile.

use gaia::ndarray::{Array2, CowArray, Ix2};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::errors::of_class;

/// The rows that are meant: those of a buffer of unsigned 32-bit numbers, or all.
pub(crate) fn rows(py: Python<'_>, rows: Option<&Bound<'_, PyAny>>, count: u32) -> PyResult<Vec<u32>> {
    match rows {
        None => Ok((0..count).collect()),
        Some(rows) => PyBuffer::<u32>::get(rows)?.to_vec(py),
    }
}

/// A contiguous buffer of f32.
fn floats(py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<PyBuffer<f32>> {
    let buffer = PyBuffer::<f32>::get(object)?;
    match buffer.is_c_contiguous() {
        true => Ok(buffer),
        false => {
            let text = "the values do not lie side by side in memory; allowed: C order";
            Err(of_class(py, "ShapeError", text.to_owned()))
        }
    }
}

/// Values of `rows x width`.
pub(crate) fn values(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    [rows, width]: [usize; 2],
) -> PyResult<Array2<f32>> {
    let buffer = floats(py, object)?;
    if buffer.item_count() != rows * width {
        let text = format!("found {} values; allowed: {rows} rows of {width}", buffer.item_count());
        return Err(of_class(py, "ShapeError", text));
    }
    Ok(Array2::from_shape_vec((rows, width), buffer.to_vec(py)?).expect("as many as were counted"))
}

/// Writes values into a buffer for as many.
pub(crate) fn write(
    py: Python<'_>,
    values: &CowArray<'_, f32, Ix2>,
    object: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let buffer = floats(py, object)?;
    if buffer.readonly() || buffer.item_count() != values.len() {
        let found = match buffer.readonly() {
            true => "a buffer that cannot be written".to_owned(),
            false => format!("room for {}", buffer.item_count()),
        };
        let text = format!("out: found {found}; allowed: a buffer for {} values of f32", values.len());
        return Err(of_class(py, "ShapeError", text));
    }
    buffer.copy_from_slice(py, values.as_slice().expect("values are in standard layout"))
}

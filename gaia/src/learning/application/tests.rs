//! Learners see their rows as matrices, whatever they declare.

use ndarray::{Array2, array};

use super::*;
use crate::learning::sequential::Sequential;

const TABLE: TableId = TableId(0);

/// What a step does.
type Act = fn(&mut dyn Tables) -> Result<Work, StepError>;

/// A model of one table of shape `[6, 2]`, `row, 10 row` at first, that is trained by what it is
/// told to do.
struct Told {
    declared: Vec<u32>,
    act: Act,
}

struct Puppet<'a>(&'a Told);

impl Application for Told {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new("table", 6, 2)]
    }

    fn initialise(&self, _: TableId, row: u32, out: &mut [f32]) {
        out.copy_from_slice(&[row as f32, 10.0 * row as f32]);
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        vec![vec![0]; parts]
    }

    fn learner(&self, _: Vec<u32>, _: f64, _: u64) -> Box<dyn Learner + '_> {
        Box::new(Puppet(self))
    }

    fn evaluate(&self, _: &Model) -> Evaluation {
        Evaluation { objective: 0.0, metric: Metric::accuracy(0.0) }
    }
}

impl Learner for Puppet<'_> {
    fn rows(&mut self, _: u32, rows: &mut RowSet) {
        rows.extend(TABLE, self.0.declared.iter().copied());
    }

    fn step(&mut self, _: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        (self.0.act)(tables)
    }
}

/// The model after one clock of one worker, trained on the model itself and on copies of its rows.
fn after(declared: &[u32], act: Act) -> Array2<f32> {
    let told = Told { declared: declared.to_vec(), act };
    let mut sequential = Sequential::new(&told, 1, 1);
    sequential.clock().expect("the step succeeds");
    let copied = sequential.model().table(TABLE).to_owned();
    let (mut model, mut workspace) = (Model::initial(&told), Workspace::new(1));
    let mut learner = told.learner(vec![0], 1.0, 1);
    workspace.begin(&mut *learner, 0);
    while workspace.step(&mut *learner, 0, &mut model).expect("the step succeeds").is_none() {}
    assert_eq!(copied, model.table(TABLE));
    copied
}

fn changed(model: &Array2<f32>) -> Array2<f32> {
    let told = Told { declared: vec![], act: |_| Ok(Work::examples(0)) };
    model - &Model::initial(&told).table(TABLE)
}

#[test]
fn rows_stand_in_the_order_of_their_declaration() {
    for declared in [&[1, 2, 3][..], &[3, 1, 2]] {
        let act: Act = match declared[0] {
            1 => |tables| {
                assert_eq!(tables.rows(TABLE), array![[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]);
                tables.scatter_add(TABLE, array![[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]].view());
                assert_eq!(tables.rows(TABLE).column(0), array![2.0, 4.0, 6.0]);
                Ok(Work::examples(1))
            },
            _ => |tables| {
                assert_eq!(tables.rows(TABLE), array![[3.0, 30.0], [1.0, 10.0], [2.0, 20.0]]);
                // A view that does not lie in one piece, as a transposed product is.
                tables.scatter_add(TABLE, array![[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]].t());
                assert_eq!(tables.rows(TABLE).column(0), array![6.0, 2.0, 4.0]);
                Ok(Work::examples(1))
            },
        };
        let expected = array![[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 0.0]];
        assert_eq!(changed(&after(declared, act)), expected);
    }
}

#[test]
fn what_is_written_in_place_counts_when_the_step_returns() {
    let model = after(&[5, 0], |tables| {
        tables.deltas(TABLE)[[0, 1]] += 7.0;
        tables.deltas(TABLE).row_mut(1).fill(-1.0);
        assert_eq!(tables.rows(TABLE), array![[5.0, 50.0], [0.0, 0.0]], "not before");
        Ok(Work::examples(1))
    });
    assert_eq!((model[[5, 1]], model[[0, 0]], model[[0, 1]]), (57.0, -1.0, -1.0));
}

#[test]
fn a_row_that_is_declared_twice_is_changed_twice() {
    let model = after(&[4, 4], |tables| {
        tables.scatter_add(TABLE, array![[1.0, 1.0], [2.0, 2.0]].view());
        assert_eq!(tables.rows(TABLE), array![[7.0, 43.0], [7.0, 43.0]]);
        Ok(Work::examples(1))
    });
    assert_eq!(changed(&model).row(4), array![3.0, 3.0]);
}

#[test]
fn a_step_that_needs_more_rows_goes_on_once_they_are_there() {
    let model = after(&[1], |tables| {
        let rows = tables.rows(TABLE).nrows();
        if rows == 1 {
            tables.add(TABLE, 1, &[100.0, 0.0]);
            tables.extend(TABLE, &[5, 2]);
        } else {
            assert_eq!(tables.rows(TABLE), array![[101.0, 10.0], [5.0, 50.0], [2.0, 20.0]]);
            tables.scatter_add(TABLE, array![[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]].view());
        }
        Ok(Work::examples(rows as u64))
    });
    let changed = changed(&model);
    assert_eq!((changed[[1, 0]], changed[[5, 0]], changed[[2, 1]]), (100.0, 1.0, 2.0));
    let told = Told {
        declared: vec![1],
        act: |tables| {
            if tables.rows(TABLE).nrows() == 1 {
                tables.extend(TABLE, &[2]);
            }
            Ok(Work::examples(3).measured(Duration::from_secs(1)))
        },
    };
    let (mut model, mut workspace) = (Model::initial(&told), Workspace::new(1));
    let mut learner = told.learner(vec![0], 1.0, 1);
    workspace.begin(&mut *learner, 0);
    assert_eq!(workspace.step(&mut *learner, 0, &mut model).expect("it succeeds"), None);
    let work = workspace.step(&mut *learner, 0, &mut model).expect("it succeeds");
    assert_eq!(work, Some(Work::examples(6).measured(Duration::from_secs(2))), "of both calls");
}

#[test]
fn a_step_that_fails_says_why_and_adds_nothing_in_place() {
    let told = Told {
        declared: vec![1],
        act: |tables| {
            tables.deltas(TABLE).fill(9.0);
            Err("the GPU is gone".into())
        },
    };
    let mut model = Model::initial(&told);
    let (mut learner, mut workspace) = (told.learner(vec![0], 1.0, 1), Workspace::new(1));
    workspace.begin(&mut *learner, 0);
    let error = workspace.step(&mut *learner, 0, &mut model).expect_err("it fails");
    assert_eq!(error.to_string(), "the GPU is gone");
    assert_eq!(model, Model::initial(&told));
    // And nothing of it is left for the next step.
    let fine = Told { declared: vec![1], act: |_| Ok(Work::examples(0)) };
    let mut learner = fine.learner(vec![0], 1.0, 1);
    workspace.begin(&mut *learner, 1);
    workspace.step(&mut *learner, 1, &mut model).expect("it succeeds");
    assert_eq!(model, Model::initial(&told));
    assert!(Sequential::new(&told, 1, 1).train(3).is_err());
}

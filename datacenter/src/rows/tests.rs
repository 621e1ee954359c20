use proptest::prelude::*;

use super::*;

fn slots() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::btree_set(0u32..60, 0..40).prop_map(|set| set.into_iter().collect())
}

proptest! {
    #[test]
    fn slots_are_the_same_however_they_are_made(list in slots(), others in slots()) {
        let made = Slots::from(list.clone());
        prop_assert_eq!(&made, &list.iter().copied().collect::<Slots>());
        let mut halves = Slots::from(list[..list.len() / 2].to_vec());
        halves.append(&Slots::from(list[list.len() / 2..].to_vec()));
        prop_assert_eq!(&made, &halves);
        prop_assert_eq!(made.iter().collect::<Vec<_>>(), list.clone());
        prop_assert_eq!(made.runs().flatten().collect::<Vec<_>>(), list.clone());
        prop_assert!(made.runs().zip(made.runs().skip(1)).all(|(a, b)| a.end < b.start));
        prop_assert_eq!((made.len(), made.last(), made.get(3)), (list.len(), list.last().copied(), list.get(3).copied()));
        let is_contiguous = list.iter().zip(list.iter().skip(1)).all(|(a, b)| a + 1 == *b);
        prop_assert_eq!(matches!(made, Slots::Range(_)), is_contiguous);
        prop_assert_eq!(
            made.contains_all(&others.clone().into()),
            others.iter().all(|slot| list.contains(slot)),
        );
        prop_assert!(made.contains_all(&list.iter().copied().step_by(3).collect()));
    }

    #[test]
    fn blocks_hold_what_was_appended_each_in_one_piece(
        tables in prop::collection::vec((slots(), 1usize..3000), 1..5),
        expected in 0usize..200_000,
    ) {
        let mut blocks = Blocks::expecting(expected);
        let value = |table: usize, index: usize| (table * 1000 + index) as f32 + 1.0;
        for (table, (list, width)) in tables.iter().enumerate() {
            for run in Slots::from(list.clone()).runs() {
                blocks.append(TableId(table as u16), *width, run, |part, values| {
                    let indexes = part.start as usize * width..part.end as usize * width;
                    let first = values.len();
                    values.extend(indexes.map(|index| value(table, index)));
                    values[first..].iter().fold(0, |most, value| most.max(magnitude(*value)))
                });
            }
        }
        let blocks = blocks.finish();
        prop_assert!(blocks.iter().all(|block| block.values().len() <= PIECE && !block.slots().is_empty()));
        for (table, (list, width)) in tables.iter().enumerate() {
            let of = || blocks.iter().filter(|block| block.table().index() == table);
            prop_assert_eq!(of().flat_map(|block| block.slots().iter()).collect::<Vec<_>>(), list.clone());
            for block in of() {
                prop_assert_eq!(block.width(), *width);
                prop_assert!(block.indexed().all(|(index, found)| found == value(table, index as usize)));
                prop_assert_eq!(block.largest(), block.values().iter().copied().fold(0.0, f32::max));
            }
        }
    }

    #[test]
    fn elements_become_rows_and_elements_again(
        indexes in prop::collection::btree_set(0u32..200, 0..50), width in 1u32..8,
    ) {
        let mut elements = Elements::new(TableId(3));
        indexes.iter().for_each(|index| elements.push(*index, *index as f32 - 300.0));
        let mut again = Elements::new(TableId(3));
        match of_elements(&elements, width) {
            Some(block) => block.non_zero(&mut again),
            None => prop_assert!(indexes.is_empty()),
        }
        prop_assert_eq!(again, elements);
    }
}

//! Tables of ratings: MovieLens, and what others publish like it.
//!
//! | file | a line |
//! |---|---|
//! | `u.data`, `u1.base`, `u1.test` | `user TAB item TAB rating TAB seconds` |
//! | `ratings.dat` | `user::item::rating::seconds` |
//! | `ratings.csv` | `userId,movieId,rating,timestamp`, under a header of these words |
//!
//! A header decides which column is which: its names are looked up among those that are known, in
//! any order, and a name that is not known is refused, since columns that are mistaken for each
//! other train to nonsense without a word. Without a header the order is that of the table above.
//! The settings may say which column is which instead; all others are then left out.
//!
//! The time may be missing and is not read. Ids are names: whole numbers or texts. They become
//! dense indexes in the order of all names of training and test file together, so that no rating of
//! a test file is without a row; or rows that follow from their hashes, which are the same whatever
//! files there are. Of several ratings of an item by one user in a file the last one counts.

use std::io::BufRead;
use std::sync::Arc;

use super::classification::MAX_EXAMPLES;
use super::lines::{FINITE, excerpt, parse_finite};
use super::names::{NameColumn, Names, NotAName, Vocabulary, hashed_row};
use super::ratings::{RatingList, Ratings, SharedRows};
use super::table::{Header, Table, TableError, quoted};
use crate::learning::data::{Column, HashedIds, Layout, RatingColumns};

/// Why a file is not usable as ratings.
#[derive(Debug, thiserror::Error)]
pub enum MovieLensError {
    /// It is no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Names in the header that nobody knows.
    #[error(
        "line {line}: the header has {found}, where users (`user`, `user_id`, `userId`), items (`item`, `movieId`, ...), ratings and \
         times are known; job.data.columns says which columns to take"
    )]
    Unknown {
        /// Counted from one.
        line: u64,
        /// The names.
        found: String,
    },
    /// A header without one of the columns that are needed.
    #[error(
        "line {line}: no column of {what} in the header {found}; job.data.columns.{key} says which one it is"
    )]
    Missing {
        /// Counted from one.
        line: u64,
        /// What is missing.
        what: &'static str,
        /// The key that may name it.
        key: &'static str,
        /// The header.
        found: String,
    },
    /// Two columns of the same kind.
    #[error("line {line}: {found} are both columns of {what}; job.data.columns.{key} says which one to take")]
    Twice {
        /// Counted from one.
        line: u64,
        /// What there is too much of.
        what: &'static str,
        /// The key that may name it.
        key: &'static str,
        /// Both names.
        found: String,
    },
    /// One column for two things.
    #[error("job.data.columns: column {column} cannot be two things; users, items and ratings need three")]
    Same {
        /// Counted from one.
        column: usize,
    },
    /// A user or an item.
    #[error("line {line}: {what} `{found}` is {why}; a whole number or a text is allowed")]
    Id {
        /// Counted from one.
        line: u64,
        /// `user` or `item`.
        what: &'static str,
        /// The field.
        found: String,
        /// What it is.
        why: NotAName,
    },
    /// A rating.
    #[error("line {line}: rating `{found}`, {FINITE}")]
    Rating {
        /// Counted from one.
        line: u64,
        /// The field.
        found: String,
    },
    /// A user or an item that is not among those that were given.
    #[error("rating {rating}: {what} {found} is none of the {count} known: {known}")]
    Stranger {
        /// Counted from one.
        rating: usize,
        /// `user` or `item`.
        what: &'static str,
        /// The id.
        found: String,
        /// How many there are.
        count: usize,
        /// Which ones.
        known: String,
    },
    /// A rating beyond what the job says that there is.
    #[error("rating {rating} is {found}; job.data.range allows {low} to {high}")]
    Beyond {
        /// Counted from one.
        rating: usize,
        /// Its value.
        found: f32,
        /// The lowest.
        low: f32,
        /// The highest.
        high: f32,
    },
    /// Nothing to train on or test with.
    #[error("has no ratings, at least one is needed")]
    Empty,
    /// More ratings than indexes can name.
    #[error("has more than the {MAX_EXAMPLES} ratings allowed")]
    TooMany,
}

/// Ratings as a file has them, with ids instead of indexes.
#[derive(Debug, Default)]
pub(crate) struct RawRatings {
    users: NameColumn,
    items: NameColumn,
    values: Vec<f32>,
}

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    User,
    Item,
    Rating,
    /// Known, and not read.
    Time,
}

/// Those that are needed, with the words for them.
const NEEDED: [(Role, &str, &str); 3] =
    [(Role::User, "users", "user"), (Role::Item, "items", "item"), (Role::Rating, "ratings", "rating")];

/// What a column of this name has, if that is known: case, `_`, `-` and blanks do not matter, nor a
/// type behind a colon (`user_id:token`, as RecBole writes it).
fn role_of(name: &str) -> Option<Role> {
    let bare = name.split(':').next().unwrap_or_default();
    let plain: String = bare.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    Some(match plain.as_str() {
        "user" | "userid" | "uid" | "reviewer" | "reviewerid" | "customer" | "customerid" => Role::User,
        "item" | "itemid" | "iid" | "movie" | "movieid" | "book" | "bookid" | "isbn" | "product"
        | "productid" | "asin" | "song" | "songid" | "artist" | "artistid" | "anime" | "animeid" => {
            Role::Item
        }
        "rating" | "ratings" | "score" | "stars" | "value" | "overall" | "bookrating" => Role::Rating,
        "timestamp" | "time" | "date" | "datetime" | "ts" | "seconds" | "unixreviewtime" => Role::Time,
        _ => return None,
    })
}

/// Where user, item and rating are.
fn places<R: BufRead>(table: &Table<R>, columns: &RatingColumns) -> Result<[usize; 3], MovieLensError> {
    let said = [&columns.user, &columns.item, &columns.rating];
    let mut found = [None; 3];
    for (place, column) in found.iter_mut().zip(said) {
        *place = column.as_ref().map(|column| table.place(column)).transpose()?;
    }
    let is_said = found.iter().any(Option::is_some);
    match table.header() {
        Some(header) => by_name(header, &mut found, is_said)?,
        None => by_order(table, &mut found, is_said)?,
    }
    let [Some(user), Some(item), Some(rating)] = found else { return Err(MovieLensError::Empty) };
    if let Some(twice) =
        [user, item].into_iter().find(|place| *place == rating).or((user == item).then_some(user))
    {
        return Err(MovieLensError::Same { column: twice + 1 });
    }
    Ok([user, item, rating])
}

fn by_name(header: &Header, found: &mut [Option<usize>; 3], is_said: bool) -> Result<(), MovieLensError> {
    let Header { line, names } = header;
    let unknown: Vec<_> = names
        .iter()
        .map(String::as_str)
        // Tools that write the number of each row leave its name empty.
        .filter(|name| !name.is_empty() && role_of(name).is_none())
        .collect();
    if !is_said && !unknown.is_empty() {
        return Err(MovieLensError::Unknown { line: *line, found: quoted(unknown.into_iter()) });
    }
    for (place, (role, what, key)) in found.iter_mut().zip(NEEDED) {
        if place.is_some() {
            continue;
        }
        let all: Vec<_> = (0..names.len()).filter(|at| role_of(&names[*at]) == Some(role)).collect();
        match all.as_slice() {
            [one] => *place = Some(*one),
            [] => {
                let found = quoted(names.iter().map(String::as_str));
                return Err(MovieLensError::Missing { line: *line, what, key, found });
            }
            several => {
                let names: Vec<_> = several.iter().map(|at| names[*at].as_str()).collect();
                let found = quoted(names.into_iter());
                return Err(MovieLensError::Twice { line: *line, what, key, found });
            }
        }
    }
    Ok(())
}

fn by_order<R: BufRead>(
    table: &Table<R>,
    found: &mut [Option<usize>; 3],
    is_said: bool,
) -> Result<(), MovieLensError> {
    let count = table.columns();
    let is_whole = found.iter().all(Option::is_some);
    if is_said && !is_whole {
        let (_, what, key) = NEEDED[found.iter().position(Option::is_none).unwrap_or_default()];
        let found = "(there is none)".to_owned();
        return Err(MovieLensError::Missing { line: table.first_line(), what, key, found });
    }
    if !is_said && !(3..=4).contains(&count) {
        let allowed =
            "3 or 4 are allowed: user, item, rating, time; job.data.columns says which of others to take";
        return Err(table.wrong_columns(table.first_line(), count, allowed.to_owned()).into());
    }
    for (place, column) in (0..).zip(found) {
        column.get_or_insert(place);
    }
    Ok(())
}

/// Reads ratings one after the other.
struct Records<R> {
    table: Table<R>,
    places: [usize; 3],
    raw: RawRatings,
}

impl<R: BufRead> Records<R> {
    fn open(input: R, layout: Layout, columns: &RatingColumns) -> Result<Self, MovieLensError> {
        let said = [&columns.user, &columns.item, &columns.rating];
        let named = said.into_iter().any(|column| matches!(column, Some(Column::Named(_))));
        let mut table = Table::open(input, layout, named)?;
        if table.columns() == 0 {
            return Err(MovieLensError::Empty);
        }
        let places = places(&table, columns)?;
        table.uses(&places);
        Ok(Self { table, places, raw: RawRatings::default() })
    }

    /// Reads a rating; yields its line.
    fn next_rating(&mut self) -> Result<Option<u64>, MovieLensError> {
        let Some((line, record)) = self.table.next_record()? else { return Ok(None) };
        if self.raw.values.len() == MAX_EXAMPLES {
            return Err(MovieLensError::TooMany);
        }
        let [user, item, rating] = self.places.map(|place| &record[place]);
        let id = |what, text, why| MovieLensError::Id { line, what, found: excerpt(text), why };
        let value = parse_finite(rating);
        let value = value.ok_or_else(|| MovieLensError::Rating { line, found: excerpt(rating) })?;
        self.raw.users.push(user).map_err(|why| id("user", user, why))?;
        self.raw.items.push(item).map_err(|why| id("item", item, why))?;
        self.raw.values.push(value);
        Ok(Some(line))
    }
}

/// Reads all ratings.
pub(crate) fn read(
    input: impl BufRead,
    layout: Layout,
    columns: &RatingColumns,
) -> Result<RawRatings, MovieLensError> {
    let mut records = Records::open(input, layout, columns)?;
    while records.next_rating()?.is_some() {}
    if records.raw.values.is_empty() { Err(MovieLensError::Empty) } else { Ok(records.raw) }
}

/// The first ratings as they are understood, for people.
pub(crate) fn preview(
    input: impl BufRead,
    layout: Layout,
    columns: &RatingColumns,
    count: usize,
) -> Result<Vec<String>, MovieLensError> {
    let mut records = Records::open(input, layout, columns)?;
    let header = match records.table.header() {
        Some(header) => format!("header {}", quoted(header.names.iter().map(String::as_str))),
        None => "no header".to_owned(),
    };
    let [user, item, rating] = records.places.map(|place| place + 1);
    let mut shown = vec![format!(
        "columns between {}, {header}: user {user}, item {item}, rating {rating}",
        records.table.delimiter()
    )];
    for row in 0..count {
        let Some(line) = records.next_rating()? else { break };
        let name = |column: &NameColumn| column.name(row).map(|name| name.to_string()).unwrap_or_default();
        let (user, item) = (name(&records.raw.users), name(&records.raw.items));
        shown.push(format!("line {line}: user {user}, item {item}, rating {}", records.raw.values[row]));
    }
    Ok(shown)
}

/// Gives users and items dense indexes: those of their names among all, or among the `known` ones;
/// or their rows, where these follow from hashes.
pub(crate) fn index(
    train: RawRatings,
    test: Option<RawRatings>,
    known: Option<&Vocabulary>,
) -> Result<Ratings, MovieLensError> {
    let all = |of: fn(&RawRatings) -> &NameColumn| -> Names {
        of(&train).names().chain(test.iter().flat_map(|test| of(test).names())).collect()
    };
    if let Some(Vocabulary::Hashed(ids)) = known {
        let names = [all(|raw| &raw.users), all(|raw| &raw.items)];
        return hashed(&train, test.as_ref(), ids, names);
    }
    let (users, items) = match known {
        Some(Vocabulary::Ratings { users, items, .. }) => (users.clone(), items.clone()),
        Some(
            Vocabulary::Classes { .. }
            | Vocabulary::Features { .. }
            | Vocabulary::Hashed(_)
            | Vocabulary::Words { .. },
        )
        | None => (all(|raw| &raw.users), all(|raw| &raw.items)),
    };
    let (train, mut repeated) = indexed(&train, &users, &items)?.without_repetitions();
    let test = test.map(|test| indexed(&test, &users, &items)).transpose()?.map(|test| {
        let (test, count) = test.without_repetitions();
        repeated += count;
        test
    });
    let (mean, range) = match known {
        Some(Vocabulary::Ratings { mean, range, .. }) => (*mean, *range),
        Some(
            Vocabulary::Classes { .. }
            | Vocabulary::Features { .. }
            | Vocabulary::Hashed(_)
            | Vocabulary::Words { .. },
        )
        | None => (train.mean() as f32, train.range()),
    };
    let (user_count, item_count) = (users.len() as u32, items.len() as u32);
    let vocabulary = Some(Arc::new(Vocabulary::Ratings { users, items, mean, range }));
    Ok(Ratings { train, test, users: user_count, items: item_count, vocabulary, repeated, shared_rows: None })
}

/// Gives users and items the rows of their hashes; `names` are all different ones of both files.
fn hashed(
    train: &RawRatings,
    test: Option<&RawRatings>,
    ids: &HashedIds,
    names: [Names; 2],
) -> Result<Ratings, MovieLensError> {
    let (low, high) = ids.range;
    for raw in [Some(train), test].into_iter().flatten() {
        let beyond = raw.values.iter().position(|value| !(low..=high).contains(value));
        if let Some(at) = beyond {
            return Err(MovieLensError::Beyond { rating: at + 1, found: raw.values[at], low, high });
        }
    }
    let [users, items] = &names;
    let rows = Rows::of(ids, users, items);
    let mut repeated = 0;
    let mut list = |raw: &RawRatings| -> Result<RatingList, MovieLensError> {
        let (list, count) = indexed(raw, users, items)?.without_repetitions();
        repeated += count;
        Ok(rows.of_list(list))
    };
    let (train, test) = (list(train)?, test.map(list).transpose()?);
    let shared = [
        SharedRows::count("users", rows.users, ids.users),
        SharedRows::count("items", rows.items, ids.items),
    ];
    Ok(Ratings {
        train,
        test,
        users: ids.users,
        items: ids.items,
        vocabulary: Some(Arc::new(Vocabulary::Hashed(ids.clone()))),
        repeated,
        shared_rows: Some(shared),
    })
}

/// The row of each different name, where it follows from a hash.
struct Rows {
    users: Vec<u32>,
    items: Vec<u32>,
}

impl Rows {
    fn of(ids: &HashedIds, users: &Names, items: &Names) -> Self {
        let rows = |names: &Names, rows| names.all().iter().map(|name| hashed_row(name, rows)).collect();
        Self { users: rows(users, ids.users), items: rows(items, ids.items) }
    }

    /// From places among names to rows. Only after repetitions are gone: users who share a row do
    /// not repeat each other.
    fn of_list(&self, mut list: RatingList) -> RatingList {
        list.users.iter_mut().for_each(|user| *user = self.users[*user as usize]);
        list.items.iter_mut().for_each(|item| *item = self.items[*item as usize]);
        list
    }
}

fn indexed(raw: &RawRatings, users: &Names, items: &Names) -> Result<RatingList, MovieLensError> {
    let places = |what, column: &NameColumn, known: &Names| -> Result<Vec<u32>, MovieLensError> {
        let places = column.places(known);
        if let Some(rating) = places.iter().position(Option::is_none) {
            let found = column.name(rating).map(|name| name.to_string()).unwrap_or_default();
            let (rating, count, known) = (rating + 1, known.len(), known.summary());
            return Err(MovieLensError::Stranger { rating, what, found, count, known });
        }
        Ok(places.into_iter().flatten().collect())
    };
    Ok(RatingList {
        users: places("user", &raw.users, users)?,
        items: places("item", &raw.items, items)?,
        values: raw.values.clone(),
    })
}

/// Gives ratings of another file the rows of their ids' hashes; every id has one.
pub(crate) fn index_hashed(raw: &RawRatings, ids: &HashedIds) -> RatingList {
    let (users, items) = (raw.users.names().collect(), raw.items.names().collect());
    let rows = Rows::of(ids, &users, &items);
    rows.of_list(index_known(raw, &users, &items).0)
}

/// Gives ratings of another file the indexes of the names that are known; also tells how many are
/// of users or items that are not, and were left out.
pub(crate) fn index_known(raw: &RawRatings, users: &Names, items: &Names) -> (RatingList, u64) {
    let mut list = RatingList::default();
    for ((user, item), value) in raw.users.places(users).iter().zip(raw.items.places(items)).zip(&raw.values)
    {
        if let (Some(user), Some(item)) = (user, item) {
            list.push(*user, item, *value);
        }
    }
    let left_out = (raw.values.len() - list.len()) as u64;
    (list.without_repetitions().0, left_out)
}

#[cfg(test)]
mod tests {
    use super::super::names::Name;
    use super::*;
    use crate::learning::data::Delimiter;

    fn read(text: &str) -> Result<RawRatings, MovieLensError> {
        super::read(text.as_bytes(), Layout::default(), &RatingColumns::default())
    }

    /// User, item and rating of each line.
    fn rows(raw: &RawRatings) -> Vec<(String, String, f32)> {
        let name =
            |column: &NameColumn, row| column.name(row).map(|name: Name| name.to_string()).expect("a row");
        let row = |row: usize| (name(&raw.users, row), name(&raw.items, row), raw.values[row]);
        (0..raw.values.len()).map(row).collect()
    }

    fn found(text: &str) -> Vec<(String, String, f32)> {
        rows(&read(text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    #[test]
    fn the_kinds_of_file_read_alike() {
        let kinds = [
            "9\t7\t3\t881250949\n2\t70\t5\t881250950\n",
            "9::7::3::881250949\n2::70::5::881250950\n",
            "userId,movieId,rating,timestamp\n9,7,3.0,881250949\r\n2,70,5.0,881250950\r\n",
            "9,7,3\n2,70,5\n",
            "9.0 7 3\n2.0 70 5\n",
            "UserID;MovieID;Rating\n9;7;3\n2;70;5\n",
            "\"userId\",\"movieId\",\"rating\",\"timestamp\"\n\"9\",\"7\",\"3\",\"1\"\n\"2\",\"70\",\"5\",\"1\"\n",
            "user_id:token\titem_id:token\trating:float\n9\t7\t3\n2\t70\t5\n",
            "rating,user,item\n3,9,7\n5,2,70\n",
            "# by somebody\nbook_id,user_id,rating\n7,9,3\n70,2,5\n",
            ",user,item,date,rating\n0,9,7,2011-03-04,3\n1,2,70,2011-03-04,5\n",
        ];
        for kind in kinds {
            let expected = [("9".to_owned(), "7".to_owned(), 3.0), ("2".to_owned(), "70".to_owned(), 5.0)];
            assert_eq!(found(kind), expected, "{kind}");
        }
    }

    #[test]
    fn texts_are_ids_and_no_header() {
        assert_eq!(found("AX01,B0001,5.0,1092182400\n"), [("AX01".to_owned(), "B0001".to_owned(), 5.0)]);
    }

    #[test]
    fn settings_say_which_column_is_which() {
        let named = |name: &str| Some(Column::Named(name.to_owned()));
        let columns = RatingColumns { user: named("who"), item: named("What"), rating: named("points") };
        let text = "what;genre;points;who\n7;drama;3;9\n";
        let raw = super::read(text.as_bytes(), Layout::default(), &columns).expect("it is sound");
        assert_eq!(rows(&raw), [("9".to_owned(), "7".to_owned(), 3.0)]);
        // What is not said is known by its name.
        let columns = RatingColumns { item: named("title"), ..RatingColumns::default() };
        let text = "title,genre,rating,user\n7,drama,3,9\n";
        let raw = super::read(text.as_bytes(), Layout::default(), &columns).expect("it is sound");
        assert_eq!(rows(&raw), [("9".to_owned(), "7".to_owned(), 3.0)]);
        let number = |number| Some(Column::Number(number));
        let columns = RatingColumns { user: number(5), item: number(1), rating: number(3) };
        let layout = Layout { delimiter: Some(Delimiter::Comma), header: Some(false), quotes: None };
        let raw = super::read("7,x,3,y,9\n".as_bytes(), layout, &columns).expect("it is sound");
        assert_eq!(rows(&raw), [("9".to_owned(), "7".to_owned(), 3.0)]);
        let columns = RatingColumns { user: number(1), item: number(1), rating: number(3) };
        let twice =
            super::read("7,x,3,y,9\n".as_bytes(), layout, &columns).expect_err("it is wrong").to_string();
        assert_eq!(
            twice,
            "job.data.columns: column 1 cannot be two things; users, items and ratings need three"
        );
    }

    #[test]
    fn indexes_are_dense_over_train_and_test_together() {
        let train = read("9\t7\t3\t0\n2\t70\t5\t0\n").unwrap();
        let test = read("5\t7\t1\t0\n").unwrap();
        let ratings = index(train, Some(test), None).unwrap();
        assert_eq!((ratings.users, ratings.items), (3, 2));
        assert_eq!((&ratings.train.users[..], &ratings.train.items[..]), (&[2, 0][..], &[0, 1][..]));
        assert_eq!(ratings.test.as_ref().unwrap().users, [1]);
        let other = read("9,70,2\n9,71,2\n4,7,2\n").unwrap();
        let vocabulary = ratings.vocabulary.as_deref().expect("it has names");
        let Vocabulary::Ratings { users, items, mean, range } = vocabulary else { panic!("{vocabulary:?}") };
        assert_eq!((*mean, *range), (4.0, (3.0, 5.0)));
        let (known, left_out) = index_known(&other, users, items);
        assert_eq!((known.users, known.items, left_out), (vec![2], vec![1], 2));
        let again = index(read("2,70,5\n").unwrap(), None, Some(vocabulary)).expect("they are known");
        assert_eq!((again.users, again.train.users, again.train.items), (3, vec![0], vec![1]));
        let stranger = index(other, None, Some(vocabulary)).expect_err("it is not known").to_string();
        assert_eq!(stranger, "rating 3: user 4 is none of the 3 known: 2, 5, 9");
    }

    #[test]
    fn the_last_of_several_ratings_counts() {
        let raw = read("1,31,2.5\n1,31,4.5\n2,3,4\n1,31,1\n").unwrap();
        let ratings = index(raw, None, None).unwrap();
        assert_eq!(ratings.train.iter().collect::<Vec<_>>(), [(1, 0, 4.0), (0, 1, 1.0)]);
        assert_eq!(ratings.repeated, 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let known = "where users (`user`, `user_id`, `userId`), items (`item`, `movieId`, ...), ratings and times are \
                     known; job.data.columns says which columns to take";
        let order =
            "3 or 4 are allowed: user, item, rating, time; job.data.columns says which of others to take";
        let number = "a number from -3.4e38 to 3.4e38 is allowed";
        let table = [
            ("1\t2\n", format!("line 1: 2 columns between tabs, {order}")),
            ("1,2,3,4,5\n", format!("line 1: 5 columns between `,`, {order}")),
            ("1,2,3\n1::2::3\n", "line 2: 1 columns between `,`, 3 as in line 1".to_owned()),
            (
                "2.5,1,31\n",
                "line 1: user `2.5` is a number with a fraction; a whole number or a text is allowed".to_owned(),
            ),
            ("1,,3\n", "line 1: item `` is nothing; a whole number or a text is allowed".to_owned()),
            ("1::2::NaN::4\n", format!("line 1: rating `NaN`, {number}")),
            ("1::2::1e99::4\n", format!("line 1: rating `1e99`, {number}")),
            ("", "has no ratings, at least one is needed".to_owned()),
            ("userId,movieId,rating,timestamp\n", "has no ratings, at least one is needed".to_owned()),
            (
                "movieId,imdbId,tmdbId\n1,0114709,862\n",
                format!("line 1: the header has `imdbId`, `tmdbId`, {known}"),
            ),
            (
                "user,item\n1,2\n",
                "line 1: no column of ratings in the header `user`, `item`; job.data.columns.rating says which one \
                 it is"
                    .to_owned(),
            ),
            (
                "user,item,movie,rating\n1,2,3,4\n",
                "line 1: `item`, `movie` are both columns of items; job.data.columns.item says which one to take"
                    .to_owned(),
            ),
        ];
        for (text, message) in table {
            assert_eq!(read(text).expect_err(text).to_string(), message, "{text}");
        }
    }
}

//! The relations of a tree, what joins them, and how many rows any set of them gives.
//!
//! Columns that equal each other are a class: of `a = b` and `b = c` any two may be joined by, and whoever joins sets of
//! relations in a class needs one pair of it. How many rows a set gives depends on the set alone, not on the order in
//! which it is joined, so that orders can be compared. The rule: [`Graph::conditions`] of all joins of an order together
//! say what the tree's predicates say, each as low as it can stand.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::utils::can_hash;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::relation::{ROWS_MAX, Relation, Values, counted, distinct_of_equals, pairs_of_keys};
use super::selectivity;
use super::tree::{Predicate, Set, Side, Tree};

/// Relations and what joins them.
pub(super) struct Graph {
    relations: Vec<Relation>,
    classes: Vec<Class>,
    /// Equalities of sides that are not one relation's each, or whose equality does not carry over.
    equalities: Vec<Equality>,
    filters: Vec<Condition>,
    /// Pairs of relations with keys that depend on each other.
    dependent: Vec<Dependent>,
}

/// Expressions that equal each other, each of one relation.
struct Class {
    members: Vec<(usize, Expr)>,
    set: Set,
    /// How many different values it has, by relation; one entry each.
    distinct: Vec<(usize, f64)>,
}

struct Equality {
    sides: (Side, Side),
    pairs: f64,
}

struct Condition {
    side: Side,
    selectivity: f64,
}

struct Dependent {
    set: Set,
    /// How many times more rows join than if the keys did not depend on each other.
    factor: f64,
}

impl Graph {
    /// The graph of a tree with these relations.
    pub(super) fn new(tree: &Tree, relations: Vec<Relation>) -> Self {
        let mut graph = Self {
            relations,
            classes: Vec::new(),
            equalities: Vec::new(),
            filters: Vec::new(),
            dependent: Vec::new(),
        };
        for predicate in &tree.predicates {
            match predicate {
                Predicate::Equal(left, right) => graph.add_equality(tree, left, right),
                Predicate::Filter(side) => {
                    graph.filters.push(Condition { side: side.clone(), selectivity: 1.0 })
                }
            }
        }
        graph.estimate();
        graph
    }

    /// How many relations there are.
    pub(super) fn len(&self) -> usize {
        self.relations.len()
    }

    /// Whether a condition joins two sets by keys.
    pub(super) fn joins(&self, left: Set, right: Set) -> bool {
        self.classes.iter().any(|class| class.set & left != 0 && class.set & right != 0)
            || self.equalities.iter().any(|equality| equality.sides_of(left, right).is_some())
    }

    /// The sets that keys hold together: within each, relations can be joined without a cross join.
    pub(super) fn components(&self) -> Vec<Set> {
        let mut components: Vec<Set> = (0..self.len()).map(|number| 1 << number).collect();
        let sets = self.classes.iter().map(|class| class.set);
        for set in sets.chain(self.equalities.iter().map(|equality| equality.set())) {
            let (within, mut rest): (Vec<Set>, Vec<Set>) =
                components.into_iter().partition(|component| component & set != 0);
            rest.push(within.into_iter().fold(0, |all, one| all | one));
            components = rest;
        }
        components
    }

    /// Rows of these relations joined by everything that is about them.
    pub(super) fn rows(&self, set: Set) -> f64 {
        // A sum of logarithms, for the product of many tables is beyond any number.
        let mut rows: f64 = self.within(set).map(|relation| relation.rows.ln()).sum();
        rows -= self.classes.iter().map(|class| class.pairs(set).ln()).sum::<f64>();
        let equalities = self.equalities.iter().filter(|equality| equality.set() & !set == 0);
        rows -= equalities.map(|equality| equality.pairs.ln()).sum::<f64>();
        let filters = self.filters.iter().filter(|filter| !filter.of_one() && filter.side.set & !set == 0);
        rows += filters.map(|filter| filter.selectivity.ln()).sum::<f64>();
        rows += self.dependence(set).ln();
        counted(rows.clamp(0.0, ROWS_MAX.ln()).exp())
    }

    /// The keys and the other conditions of a join of two sets: all that is about both and not about one alone.
    pub(super) fn conditions(&self, left: Set, right: Set) -> (Vec<(Expr, Expr)>, Vec<Expr>) {
        let (both, mut on, mut filters) = (left | right, Vec::new(), Vec::new());
        let is_new = |set: Set| set & !both == 0 && set & !left != 0 && set & !right != 0;
        for class in &self.classes {
            if let (Some(left), Some(right)) = (class.member(left), class.member(right)) {
                on.push((left.clone(), right.clone()));
            }
        }
        for equality in &self.equalities {
            match equality.sides_of(left, right) {
                Some((left, right)) => on.push((left.clone(), right.clone())),
                None if is_new(equality.set()) => {
                    let (left, right) = &equality.sides;
                    filters.push(left.expr.clone().eq(right.expr.clone()));
                }
                None => {}
            }
        }
        let new = self.filters.iter().filter(|filter| is_new(filter.side.set));
        filters.extend(new.map(|filter| filter.side.expr.clone()));
        (on, filters)
    }

    /// The conditions on one relation.
    pub(super) fn filters_of(&self, number: usize) -> Vec<Expr> {
        let filters = self.filters.iter().filter(|filter| filter.side.set == 1 << number);
        let mut filters: Vec<_> = filters.map(|filter| filter.side.expr.clone()).collect();
        for class in &self.classes {
            let mut own = class.members.iter().filter(|(of, _)| *of == number).map(|(_, expr)| expr);
            if let Some(first) = own.next() {
                filters.extend(own.map(|other| first.clone().eq(other.clone())));
            }
        }
        filters
    }

    fn within(&self, set: Set) -> impl Iterator<Item = &Relation> {
        self.relations
            .iter()
            .enumerate()
            .filter(move |(number, _)| set & (1 << number) != 0)
            .map(|(_, of)| of)
    }

    fn add_equality(&mut self, tree: &Tree, left: &Side, right: &Side) {
        let data_type = |side: &Side| {
            let leaf = tree.leaves.get(side.set.trailing_zeros() as usize)?;
            side.expr.get_type(leaf.schema()).ok().filter(|_| side.set.is_power_of_two())
        };
        let carries_over = |data_type: &DataType| {
            // Zeros and NaN are equal in more than one way.
            can_hash(data_type) && !data_type.is_floating() && !data_type.is_nested()
        };
        match data_type(left).zip(data_type(right)) {
            Some((one, other)) if one == other && carries_over(&one) => self.add_to_class(left, right),
            _ => self.equalities.push(Equality { sides: (left.clone(), right.clone()), pairs: 1.0 }),
        }
    }

    fn add_to_class(&mut self, left: &Side, right: &Side) {
        let member = |side: &Side| (side.set.trailing_zeros() as usize, side.expr.clone());
        let mut joined = Class { members: Vec::new(), set: left.set | right.set, distinct: Vec::new() };
        let (touched, rest) = std::mem::take(&mut self.classes)
            .into_iter()
            .partition(|class: &Class| [left, right].iter().any(|side| class.has(&member(side))));
        self.classes = rest;
        let touched: Vec<Class> = touched;
        for class in touched {
            joined.set |= class.set;
            joined.members.extend(class.members);
        }
        for side in [left, right] {
            let member = member(side);
            if !joined.has(&member) {
                joined.members.push(member);
            }
        }
        self.classes.push(joined);
    }

    /// Finds the numbers once all conditions are known.
    fn estimate(&mut self) {
        for number in 0..self.len() {
            let filters = self.filters_of(number);
            let filters: Vec<_> = filters.iter().collect();
            self.relations[number] = self.relations[number].clone().filtered(&filters);
        }
        let relations = &self.relations;
        for class in &mut self.classes {
            class.estimate(relations);
        }
        for equality in &mut self.equalities {
            equality.pairs =
                match (one_of(relations, &equality.sides.0), one_of(relations, &equality.sides.1)) {
                    (Some(left), Some(right)) => {
                        distinct_of_equals(&[left, right]).into_iter().fold(1.0, f64::max)
                    }
                    _ => super::relation::DISTINCT_ASKED,
                };
        }
        for filter in &mut self.filters {
            let of = relations.iter().enumerate().filter(|(number, _)| filter.side.set & (1 << number) != 0);
            let of = of.map(|(_, of)| of.clone()).reduce(|one, other| one.beside(&other));
            filter.selectivity = of.map_or(1.0, |of| selectivity::of(&filter.side.expr, &of));
        }
        self.dependent = self.find_dependent();
    }

    /// Pairs of relations that share more than one class.
    fn find_dependent(&self) -> Vec<Dependent> {
        let mut dependent = Vec::new();
        for left in 0..self.len() {
            for right in left + 1..self.len() {
                let shared = self.classes.iter().filter_map(|class| class.of(left).zip(class.of(right)));
                let shared: Vec<_> = shared.collect();
                if shared.len() < 2 {
                    continue;
                }
                let apart: f64 = shared.iter().fold(1.0, |all, (one, other)| counted(all * one.max(*other)));
                let (left_rows, right_rows) =
                    (self.relations[left].base_rows, self.relations[right].base_rows);
                let factor = counted(apart / pairs_of_keys(&shared, left_rows, right_rows));
                dependent.push(Dependent { set: 1 << left | 1 << right, factor });
            }
        }
        dependent
    }

    /// By how much the keys of a set depend on each other: each relation that is joined counts once.
    fn dependence(&self, set: Set) -> f64 {
        let mut joined: Vec<Set> = Vec::new();
        let mut factor = 1.0;
        for dependent in self.dependent.iter().filter(|dependent| dependent.set & !set == 0) {
            let (touched, rest): (Vec<Set>, Vec<Set>) =
                joined.into_iter().partition(|joined| joined & dependent.set != 0);
            joined = rest;
            if !touched.iter().any(|touched| dependent.set & !touched == 0) {
                factor = counted(factor * dependent.factor);
            }
            joined.push(touched.into_iter().fold(dependent.set, |all, one| all | one));
        }
        factor
    }
}

/// The values of a side that is of one relation, and that relation's rows.
fn one_of(relations: &[Relation], side: &Side) -> Option<(Values, f64)> {
    let relation =
        relations.get(side.set.trailing_zeros() as usize).filter(|_| side.set.is_power_of_two())?;
    Some((relation.values_of(&side.expr), relation.base_rows))
}

impl Class {
    fn has(&self, member: &(usize, Expr)) -> bool {
        self.members.contains(member)
    }

    /// A member that is of these relations.
    fn member(&self, set: Set) -> Option<&Expr> {
        self.members.iter().find(|(of, _)| set & (1 << of) != 0).map(|(_, expr)| expr)
    }

    /// How many values a relation has.
    fn of(&self, number: usize) -> Option<f64> {
        self.distinct.iter().find(|(of, _)| *of == number).map(|(_, distinct)| *distinct)
    }

    fn estimate(&mut self, relations: &[Relation]) {
        let values = |(of, expr): &(usize, Expr)| (relations[*of].values_of(expr), relations[*of].base_rows);
        let values: Vec<_> = self.members.iter().map(values).collect();
        for ((of, _), distinct) in self.members.iter().zip(distinct_of_equals(&values)) {
            match self.distinct.iter_mut().find(|(known, _)| known == of) {
                Some((_, known)) => *known = known.min(distinct),
                None => self.distinct.push((*of, distinct)),
            }
        }
        // From few to many, see `pairs`.
        self.distinct.sort_by(|one, other| one.1.total_cmp(&other.1));
    }

    /// Of how many combinations of rows one is joined: the relation with the fewest values finds its own in all others.
    fn pairs(&self, set: Set) -> f64 {
        let within = self.distinct.iter().filter(|(of, _)| set & (1 << of) != 0);
        within.skip(1).fold(1.0, |all, (_, distinct)| counted(all * distinct))
    }
}

impl Equality {
    fn set(&self) -> Set {
        self.sides.0.set | self.sides.1.set
    }

    /// The side of each set, if one is of the left alone and the other of the right alone.
    fn sides_of(&self, left: Set, right: Set) -> Option<(&Expr, &Expr)> {
        let (one, other) = &self.sides;
        let are = |one: &Side, other: &Side| one.set & !left == 0 && other.set & !right == 0;
        if are(one, other) {
            Some((&one.expr, &other.expr))
        } else if are(other, one) {
            Some((&other.expr, &one.expr))
        } else {
            None
        }
    }
}

impl Condition {
    fn of_one(&self) -> bool {
        self.side.set.is_power_of_two()
    }
}

//! The days of the shop, and how its business falls on them.
//!
//! Sales grow year by year, swell before Christmas, peak on Saturdays and on two days in
//! November, and rest on Christmas. Weights are integers, and a total is shared out so that
//! the days sum up to it exactly, at every scale.

use std::sync::LazyLock;

use chrono::{Datelike, Days, NaiveDate, Weekday};

/// Days in the shop's calendar: 2021-01-01 to 2025-12-31.
pub const DAYS: usize = 1_826;
/// Months in it.
pub const MONTHS: usize = 60;
/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Days since 1970 of the first day.
pub const FIRST_DAY: i32 = 18_628;
/// Days since 1970 of 2100-01-01, the end of what is still valid.
pub const FOREVER: i32 = 47_482;

/// One day.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    /// Its place in the calendar, from 0.
    pub index: usize,
    /// Days since 1970.
    pub epoch: i32,
    /// The date.
    pub date: NaiveDate,
}

impl Day {
    /// The day at a place in the calendar.
    pub fn at(index: usize) -> Self {
        let epoch = FIRST_DAY + index as i32;
        Self { index, epoch, date: date_of(epoch) }
    }

    /// `yyyymmdd`.
    pub fn key(&self) -> i32 {
        self.date.year() * 10_000 + self.date.month() as i32 * 100 + self.date.day() as i32
    }

    /// Its place among the months of the calendar, from 0.
    pub fn month_index(&self) -> usize {
        (self.date.year() - 2021) as usize * 12 + self.date.month0() as usize
    }

    /// Whether the shops are closed by law.
    pub fn is_holiday(&self) -> bool {
        matches!((self.date.month(), self.date.day()), (1, 1) | (5, 1) | (12, 25 | 26))
    }

    /// The share of this day in all sales.
    fn weight(&self) -> u64 {
        const YEARS: [u64; 5] = [100, 118, 135, 150, 168];
        const MONTHS: [u64; 12] = [82, 78, 88, 90, 96, 94, 90, 92, 98, 104, 128, 150];
        let weekday = match self.date.weekday() {
            Weekday::Mon => 92,
            Weekday::Tue => 88,
            Weekday::Wed => 90,
            Weekday::Thu => 97,
            Weekday::Fri => 118,
            Weekday::Sat => 131,
            Weekday::Sun => 104,
        };
        let event = match (self.date.month(), self.date.day()) {
            (12, 25 | 26) | (1, 1) => 40,
            (12, 10..=20) => 135,
            (11, 23..=29) if self.date.weekday() == Weekday::Fri => 240,
            _ if self.is_cyber_monday() => 200,
            _ => 100,
        };
        YEARS[(self.date.year() - 2021) as usize] * MONTHS[self.date.month0() as usize] * weekday * event
    }

    /// The Monday after the fourth Thursday of November.
    fn is_cyber_monday(&self) -> bool {
        self.date.weekday() == Weekday::Mon
            && self
                .date
                .checked_sub_days(Days::new(3))
                .is_some_and(|friday| friday.month() == 11 && (23..=29).contains(&friday.day()))
    }
}

/// The date so many days after 1970-01-01.
pub fn date_of(epoch: i32) -> NaiveDate {
    NaiveDate::from_epoch_days(epoch).expect("the demo's days are within every calendar")
}

/// Rows up to and including each day, when `total` rows fall on all days.
pub fn shares(total: u64) -> Vec<u64> {
    static WEIGHTS: LazyLock<Vec<u128>> = LazyLock::new(|| {
        let mut sum = 0;
        let weights = (0..DAYS).map(|index| {
            sum += u128::from(Day::at(index).weight());
            sum
        });
        weights.collect()
    });
    let all = WEIGHTS[DAYS - 1];
    WEIGHTS.iter().map(|weight| (u128::from(total) * weight / all) as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_spans_five_years() {
        assert_eq!(Day::at(0).key(), 20_210_101);
        assert_eq!(Day::at(DAYS - 1).key(), 20_251_231);
        assert_eq!(Day::at(DAYS - 1).month_index(), MONTHS - 1);
        assert_eq!(date_of(FOREVER).to_string(), "2100-01-01");
    }

    #[test]
    fn days_sum_up_to_the_total_exactly() {
        for total in [0, 1, 999, 1_000_000] {
            assert_eq!(shares(total)[DAYS - 1], total);
        }
    }

    #[test]
    fn every_day_sells_at_the_default_scale() {
        let sums = shares(1_000_000);
        assert!(sums.windows(2).all(|pair| pair[1] > pair[0] + 50));
    }

    #[test]
    fn november_has_its_peaks() {
        let sums = shares(10_000_000);
        let of = |key: i32| {
            let index = (0..DAYS).find(|index| Day::at(*index).key() == key).unwrap();
            sums[index] - sums[index - 1]
        };
        assert!(of(20_231_124) > 2 * of(20_231_117));
        assert!(of(20_231_127) * 10 > of(20_231_120) * 19);
        assert!(of(20_231_225) < of(20_231_218) / 2);
    }
}

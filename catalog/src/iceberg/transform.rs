//! Partition transforms of the specification as our own type.

use ::iceberg::spec::Transform as SpecTransform;
use tarn_scan::write::Transform;

/// The transform as our own type; `None` for one that we do not know.
pub(super) fn transform(transform: SpecTransform) -> Option<Transform> {
    Some(match transform {
        SpecTransform::Identity => Transform::Identity,
        SpecTransform::Bucket(count) => Transform::Bucket(count),
        SpecTransform::Truncate(width) => Transform::Truncate(width),
        SpecTransform::Year => Transform::Year,
        SpecTransform::Month => Transform::Month,
        SpecTransform::Day => Transform::Day,
        SpecTransform::Hour => Transform::Hour,
        SpecTransform::Void => Transform::Void,
        SpecTransform::Unknown => return None,
    })
}

//! `SHOW` and `DESCRIBE`: what there is, as small tables of text.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use chrono::{DateTime, SecondsFormat};
use datafusion::arrow::array::{BooleanArray, StringArray};
use datafusion::arrow::compute::kernels::comparison::like;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use tarn_catalog::{Relation, View};

use super::answer::Rows;
use super::bind::resolve;
use super::run::Queries;
use crate::error::{Error, ErrorCode, Result};
use crate::session::Session;
use crate::sql::{ObjectName, Show};

/// Longest SQL text in `SHOW QUERIES`, in characters.
const SQL_CHARS_MAX: usize = 500;

pub(super) async fn run(queries: &Queries, session: &Session, show: &Show) -> Result<Rows> {
    let lakehouse = queries.lakehouse();
    match show {
        Show::Catalogs { like } => Ok(names("catalog", lakehouse.catalogs(), like.as_deref())?),
        Show::Schemas { catalog, like } => {
            let catalog = catalog.clone().unwrap_or_else(|| session.catalog());
            names("schema", lakehouse.schemas(&catalog).await?, like.as_deref())
        }
        Show::Tables { schema, like } => {
            let (catalog, schema) = listed_schema(queries, session, schema.as_ref()).await?;
            let mut all = lakehouse.tables(&catalog, &schema).await?;
            all.extend(lakehouse.views(&catalog, &schema).await?);
            all.sort_unstable();
            names("table", all, like.as_deref())
        }
        Show::Views { schema, like } => {
            let (catalog, schema) = listed_schema(queries, session, schema.as_ref()).await?;
            names("view", lakehouse.views(&catalog, &schema).await?, like.as_deref())
        }
        Show::CreateView { view } => {
            let view = lakehouse.view(&resolve(session, view)).await?;
            Ok(Rows::text(["create_view"], vec![[Some(create_view(&view)?)]]))
        }
        Show::Columns { table } => {
            let schema = match lakehouse.relation(&resolve(session, table), None).await? {
                Relation::Table(pinned) => pinned.schema(),
                Relation::View(view) => Arc::clone(view.schema()),
            };
            let rows = schema.fields().iter().map(|field| {
                let comment = field.metadata().get("comment").cloned();
                let nullable = if field.is_nullable() { "yes" } else { "no" };
                [
                    Some(field.name().clone()),
                    Some(sql_type(field.data_type())),
                    Some(nullable.to_string()),
                    comment,
                ]
            });
            Ok(Rows::text(["column", "type", "nullable", "comment"], rows.collect()))
        }
        Show::Queries => Ok(all_queries(queries)),
        Show::Pools => Ok(pools(queries)),
        Show::Settings => {
            let settings = session.settings();
            let rows = settings.all().map(|(name, value, description)| {
                [name, value, description].map(|text| Some(text.to_string()))
            });
            Ok(Rows::text(["name", "value", "description"], rows.collect()))
        }
        Show::Setting { name } => setting(session, name),
    }
}

/// The schema of a listing, if there is one.
async fn listed_schema(
    queries: &Queries,
    session: &Session,
    schema: Option<&ObjectName>,
) -> Result<(String, String)> {
    let (catalog, schema) = match schema {
        Some(name) => {
            let catalog = name.qualifiers().first().cloned();
            (catalog.unwrap_or_else(|| session.catalog()), name.last().to_string())
        }
        None => (session.catalog(), session.schema()),
    };
    if !queries.lakehouse().schema_exists(&catalog, &schema).await? {
        let message = format!("schema \"{catalog}.{schema}\" not found");
        return Err(Error::new(ErrorCode::NotFound, message).with_hint("SHOW SCHEMAS lists them"));
    }
    Ok((catalog, schema))
}

/// The statement that makes a view.
fn create_view(view: &View) -> Result<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let name = view.name();
    let name = [&name.catalog, &name.schema, &name.table].map(|part| quoted(part)).join(".");
    let columns: Vec<_> = view.schema().fields().iter().map(|field| quoted(field.name())).collect();
    let comment = view.comment().map(|comment| format!("COMMENT '{}'\n", comment.replace('\'', "''")));
    let (columns, comment) = (columns.join(", "), comment.unwrap_or_default());
    Ok(format!("CREATE VIEW {name} ({columns})\n{comment}AS {}", view.definition()?.sql))
}

fn setting(session: &Session, name: &str) -> Result<Rows> {
    let value = match name {
        "catalog" | "current_catalog" => session.catalog(),
        "schema" | "current_schema" | "search_path" => session.schema(),
        "transaction_isolation" => "snapshot".to_string(),
        name => session.settings().get(name)?.to_string(),
    };
    Ok(Rows::text(["name", "value"], vec![[Some(name.to_string()), Some(value)]]))
}

fn names(column: &str, names: Vec<String>, pattern: Option<&str>) -> Result<Rows> {
    let kept = match pattern {
        None => names,
        Some(pattern) => {
            let array = StringArray::from(names.clone());
            let matches: BooleanArray = like(&array, &StringArray::new_scalar(pattern))?;
            names.into_iter().zip(matches.values()).filter_map(|(name, keep)| keep.then_some(name)).collect()
        }
    };
    Ok(Rows::text([column], kept.into_iter().map(|name| [Some(name)]).collect()))
}

fn all_queries(queries: &Queries) -> Rows {
    let rows = queries.register().list().into_iter().map(|query| {
        let seconds = query.submitted_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let submitted =
            DateTime::from_timestamp_millis(i64::try_from(seconds.as_millis()).unwrap_or(i64::MAX));
        let sql: String =
            query.sql.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SQL_CHARS_MAX).collect();
        [
            Some(query.id.to_string()),
            Some(query.state.as_str().to_string()),
            query.mode.map(|mode| mode.to_string()),
            Some(query.principal),
            submitted.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            Some(format!("{:.3}", query.elapsed.as_secs_f64())),
            Some(query.rows.to_string()),
            query.code.map(|code| code.to_string()),
            Some(sql),
        ]
    });
    Rows::text(
        ["query_id", "state", "mode", "user", "submitted_at", "seconds", "rows", "code", "sql"],
        rows.collect(),
    )
}

fn pools(queries: &Queries) -> Rows {
    let rows = queries.admission().pools().into_iter().map(|pool| {
        [
            pool.config.name,
            pool.config.weight.to_string(),
            pool.running.to_string(),
            pool.waiting.to_string(),
            pool.memory_bytes.to_string(),
            pool.memory_bytes_max.to_string(),
            pool.admitted.to_string(),
            pool.refused.to_string(),
            format!("{:.3}", pool.waited.as_secs_f64()),
        ]
        .map(Some)
    });
    let columns = [
        "pool",
        "weight",
        "running",
        "waiting",
        "memory_bytes",
        "memory_bytes_max",
        "admitted",
        "refused",
        "waited_seconds",
    ];
    Rows::text(columns, rows.collect())
}

/// A type as SQL spells it.
pub(super) fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_string(),
        DataType::Int32 => "INTEGER".to_string(),
        DataType::Int64 => "BIGINT".to_string(),
        DataType::Float32 => "REAL".to_string(),
        DataType::Float64 => "DOUBLE".to_string(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Date32 => "DATE".to_string(),
        DataType::Time64(_) => "TIME".to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP".to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_string(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_string(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "VARBINARY".to_string(),
        DataType::FixedSizeBinary(16) => "UUID".to_string(),
        DataType::FixedSizeBinary(width) => format!("BINARY({width})"),
        DataType::List(element) => format!("ARRAY<{}>", sql_type(element.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| format!("{} {}", field.name(), sql_type(field.data_type())))
                .collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", sql_type(fields[0].data_type()), sql_type(fields[1].data_type()))
            }
            _ => "MAP".to_string(),
        },
        other => Arc::new(other).to_string(),
    }
}

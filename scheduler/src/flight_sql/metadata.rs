//! Catalogs, schemas, tables and keys, for tools that browse.
//!
//! The schemas are those of the Flight SQL specification to the bit: drivers cast them strictly.
//! Filters apply before anything is loaded, one table that cannot be read never fails the
//! listing, and nothing here takes a query's place.

use std::sync::{Arc, LazyLock};

use arrow_flight::sql::{
    Command, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTables, CommandGetXdbcTypeInfo,
};
use datafusion::arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};
use tarn_catalog::{Lakehouse, TableName};
use tonic::Status;
use tracing::warn;

use super::config::Config;
use super::pattern::Pattern;
use super::service::encode_schema;
use super::sql_info::sql_info;
use super::status;
use super::type_name::type_info;
use super::wire_types::{Profile, table_schema};
use crate::error::Error;

/// Tables whose metadata is loaded at once for one listing.
const LOADS_CONCURRENT: usize = 16;

/// What kinds of tables there are.
const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";

/// The schema of a metadata command's answer; `None` for any other command.
pub(super) fn schema(command: &Command, config: &Config) -> Option<SchemaRef> {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    let fields = match command {
        Command::CommandGetCatalogs(_) => vec![text("catalog_name", false)],
        Command::CommandGetDbSchemas(_) => vec![text("catalog_name", true), text("db_schema_name", false)],
        Command::CommandGetTables(tables) => {
            let mut fields = vec![
                text("catalog_name", true),
                text("db_schema_name", true),
                text("table_name", false),
                text("table_type", false),
            ];
            if tables.include_schema {
                fields.push(Field::new("table_schema", DataType::Binary, false));
            }
            fields
        }
        Command::CommandGetTableTypes(_) => vec![text("table_type", false)],
        Command::CommandGetPrimaryKeys(_) => vec![
            text("catalog_name", true),
            text("db_schema_name", true),
            text("table_name", false),
            text("column_name", false),
            text("key_name", true),
            Field::new("key_sequence", DataType::Int32, false),
        ],
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => return Some(Arc::clone(&FOREIGN_KEYS)),
        Command::CommandGetSqlInfo(_) => return Some(sql_info(config).schema()),
        Command::CommandGetXdbcTypeInfo(_) => return Some(type_info().schema()),
        _ => return None,
    };
    Some(Arc::new(Schema::new(fields)))
}

/// The rows of a metadata command, in the schema that [`schema`] says.
pub(super) async fn rows(
    lakehouse: Lakehouse,
    command: Command,
    config: Config,
    profile: Profile,
) -> Result<RecordBatch, Status> {
    let schema = schema(&command, &config).ok_or_else(|| status::invalid("the ticket names no rows"))?;
    match command {
        Command::CommandGetCatalogs(_) => {
            let mut catalogs = lakehouse.catalogs();
            catalogs.sort_unstable();
            text_batch(schema, [catalogs])
        }
        Command::CommandGetDbSchemas(command) => {
            let CommandGetDbSchemas { catalog, db_schema_filter_pattern } = command;
            let schemas =
                list_schemas(&lakehouse, catalog.as_deref(), db_schema_filter_pattern.as_deref()).await?;
            let (catalogs, names) = schemas.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
            text_batch(schema, [catalogs, names])
        }
        Command::CommandGetTables(command) => tables(&lakehouse, command, schema, profile).await,
        Command::CommandGetTableTypes(_) => text_batch(schema, [vec![TABLE.to_string(), VIEW.to_string()]]),
        Command::CommandGetSqlInfo(CommandGetSqlInfo { info }) => {
            sql_info(&config).record_batch(info).map_err(status::from_flight)
        }
        Command::CommandGetXdbcTypeInfo(CommandGetXdbcTypeInfo { data_type }) => {
            type_info().record_batch(data_type).map_err(status::from_flight)
        }
        // Keys: none are declared, which is an answer and not an error.
        _ => Ok(RecordBatch::new_empty(schema)),
    }
}

static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// Schemas as (catalog, schema), in order. No catalog asked for means all, an empty one none.
async fn list_schemas(
    lakehouse: &Lakehouse,
    catalog: Option<&str>,
    pattern: Option<&str>,
) -> Result<Vec<(String, String)>, Status> {
    let pattern = pattern.map(Pattern::new);
    let mut found = Vec::new();
    for name in lakehouse.catalogs() {
        if catalog.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let schemas =
            lakehouse.schemas(&name).await.map_err(|failure| status::status(Error::from(failure)))?;
        let matching = schemas.into_iter().filter(|schema| matches(pattern.as_ref(), schema));
        found.extend(matching.map(|schema| (name.clone(), schema)));
    }
    found.sort_unstable();
    Ok(found)
}

async fn tables(
    lakehouse: &Lakehouse,
    command: CommandGetTables,
    schema: SchemaRef,
    profile: Profile,
) -> Result<RecordBatch, Status> {
    let (wants_tables, wants_views) = wanted(&command.table_types);
    if !wants_tables && !wants_views {
        return Ok(RecordBatch::new_empty(schema));
    }
    let catalog = command.catalog.as_deref();
    let schemas = list_schemas(lakehouse, catalog, command.db_schema_filter_pattern.as_deref()).await?;
    let pattern = command.table_name_filter_pattern.as_deref().map(Pattern::new);
    let listings = stream::iter(schemas.into_iter().map(|(catalog, schema)| async move {
        let failed = |failure| status::status(Error::from(failure));
        let mut named = Vec::new();
        if wants_tables {
            let tables = lakehouse.tables(&catalog, &schema).await.map_err(failed)?;
            named.extend(tables.into_iter().map(|table| (TableName::new(&catalog, &schema, table), false)));
        }
        if wants_views {
            let views = lakehouse.views(&catalog, &schema).await.map_err(failed)?;
            named.extend(views.into_iter().map(|view| (TableName::new(&catalog, &schema, view), true)));
        }
        Ok::<_, Status>(named)
    }));
    let listings: Vec<Vec<Listed>> = listings.buffered(LOADS_CONCURRENT).try_collect().await?;
    let mut names: Vec<Listed> = listings.into_iter().flatten().collect();
    names.retain(|(name, _)| matches(pattern.as_ref(), &name.table));
    // By type first, as JDBC has it.
    names.sort_unstable_by(|(a, a_is_view), (b, b_is_view)| (a_is_view, a).cmp(&(b_is_view, b)));
    if !command.include_schema {
        return table_batch(schema, names, None);
    }
    let loads = stream::iter(names.into_iter().map(|listed| async move {
        let encoded = encoded_schema(lakehouse, &listed, profile).await;
        encoded.map(|encoded| (listed, encoded))
    }));
    // A table that cannot be read is left out, so that the others are seen.
    let loaded: Vec<_> = loads.buffered(LOADS_CONCURRENT).filter_map(|table| async { table }).collect().await;
    let (names, schemas): (Vec<_>, Vec<_>) = loaded.into_iter().unzip();
    table_batch(schema, names, Some(schemas))
}

async fn encoded_schema(lakehouse: &Lakehouse, listed: &Listed, profile: Profile) -> Option<Vec<u8>> {
    let (name, is_view) = listed;
    let loaded = match is_view {
        true => lakehouse.view(name).await.map(|view| Arc::clone(view.schema())),
        false => lakehouse.pin(name, None).await.map(|pinned| pinned.schema()),
    };
    let schema = match loaded {
        Ok(schema) => schema,
        Err(failure) => {
            warn!(table = %name, error = %failure, "table left out of a listing");
            return None;
        }
    };
    let schema = table_schema(&schema, profile, (&name.catalog, &name.schema, &name.table));
    match encode_schema(&schema) {
        Ok(encoded) => Some(encoded.to_vec()),
        Err(failure) => {
            warn!(table = %name, error = %failure, "table left out of a listing");
            None
        }
    }
}

/// A name, and whether it is a view's.
type Listed = (TableName, bool);

/// Whether a filter of table types takes plain tables, and views.
fn wanted(types: &[String]) -> (bool, bool) {
    let named = |kind: &str| types.is_empty() || types.iter().any(|name| name.eq_ignore_ascii_case(kind));
    (named(TABLE) || named("BASE TABLE"), named(VIEW))
}

fn matches(pattern: Option<&Pattern>, name: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.matches(name))
}

fn table_batch(
    schema: SchemaRef,
    names: Vec<Listed>,
    schemas: Option<Vec<Vec<u8>>>,
) -> Result<RecordBatch, Status> {
    let column = |part: fn(&TableName) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(names.iter().map(|(name, _)| part(name))))
    };
    let mut columns = vec![
        column(|name| &name.catalog),
        column(|name| &name.schema),
        column(|name| &name.table),
        Arc::new(StringArray::from_iter_values(
            names.iter().map(|(_, is_view)| if *is_view { VIEW } else { TABLE }),
        )),
    ];
    if let Some(schemas) = schemas {
        columns.push(Arc::new(BinaryArray::from_iter_values(schemas)));
    }
    RecordBatch::try_new(schema, columns).map_err(status::from_arrow)
}

fn text_batch<const N: usize>(schema: SchemaRef, columns: [Vec<String>; N]) -> Result<RecordBatch, Status> {
    let columns =
        columns.into_iter().map(|column| Arc::new(StringArray::from_iter_values(column)) as ArrayRef);
    RecordBatch::try_new(schema, columns.collect()).map_err(status::from_arrow)
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::{
        CommandGetCatalogs, CommandGetExportedKeys, CommandGetPrimaryKeys, CommandGetTableTypes,
    };

    use super::*;

    #[test]
    fn schemas_equal_those_of_the_library_where_it_has_them() {
        let config = Config::default();
        let ours = |command: Command| schema(&command, &config).unwrap();
        let catalogs = CommandGetCatalogs {};
        assert_eq!(ours(Command::CommandGetCatalogs(catalogs)), catalogs.into_builder().schema());
        let schemas = CommandGetDbSchemas::default();
        assert_eq!(ours(Command::CommandGetDbSchemas(schemas.clone())), schemas.into_builder().schema());
        let types = CommandGetTableTypes {};
        assert_eq!(ours(Command::CommandGetTableTypes(types)), types.into_builder().schema());
        for include_schema in [false, true] {
            let tables = CommandGetTables { include_schema, ..Default::default() };
            assert_eq!(ours(Command::CommandGetTables(tables.clone())), tables.into_builder().schema());
        }
    }

    #[test]
    fn keys_have_the_types_that_jdbc_casts_to() {
        let config = Config::default();
        let primary =
            schema(&Command::CommandGetPrimaryKeys(CommandGetPrimaryKeys::default()), &config).unwrap();
        assert_eq!(primary.field_with_name("key_sequence").unwrap().data_type(), &DataType::Int32);
        let exported =
            schema(&Command::CommandGetExportedKeys(CommandGetExportedKeys::default()), &config).unwrap();
        assert_eq!(exported.field_with_name("update_rule").unwrap().data_type(), &DataType::UInt8);
        assert!(!exported.field_with_name("delete_rule").unwrap().is_nullable());
        assert_eq!(exported.fields().len(), 13);
    }

    #[test]
    fn table_types_are_taken_in_any_case_and_by_their_standard_name() {
        let wants = |types: &[&str]| wanted(&types.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(wants(&[]), (true, true));
        assert_eq!(wants(&["view", "table"]), (true, true));
        assert_eq!(wants(&["BASE TABLE"]), (true, false));
        assert_eq!(wants(&["VIEW", "SYSTEM TABLE"]), (false, true));
    }
}

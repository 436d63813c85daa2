//! The front door as Flight SQL clients meet it: statements, tickets, prepared statements, metadata,
//! sessions. Where tarn's own client would hide something, arrow-flight's plain one is used.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, IpcMessage, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tarn_client::Error;
use tarn_harness::{Cluster, Data, run};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::clusters::{fresh_schema, one_process};
use crate::rows::{self, code, collect, refused, rows, value};

type Plain = FlightSqlServiceClient<Channel>;

// Statements and tickets.

#[test]
fn the_wire_has_plain_types_by_default_and_native_ones_on_request() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let sql = "select n_name, n_nationkey, cast(1.5 as decimal(9, 2)) as d, date '2024-01-01' as day, \
                   cast('2024-01-01' as timestamp) as ts, X'00ff' as b from tpch.nation where n_nationkey = 3";
        let result = rows(&mut connection, sql).await;
        let types: Vec<_> = result.schema.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(
            types[..4],
            [DataType::Utf8, DataType::Int64, DataType::Decimal128(9, 2), DataType::Date32]
        );
        assert!(
            matches!(types[4], DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, None)),
            "{types:?}"
        );
        assert_eq!(types[5], DataType::Binary);
        assert_eq!(result.text()[0][..4], ["CANADA", "3", "1.50", "2024-01-01"]);

        rows::run(&mut connection, "set wire_profile = 'native'").await;
        let result = rows(&mut connection, "select n_name from tpch.nation where n_nationkey = 3").await;
        assert_eq!(result.schema.field(0).data_type(), &DataType::Utf8View);
        assert_eq!(result.value(), "CANADA");
    });
}

#[test]
fn an_empty_result_has_its_schema() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let mut plain = plain(one_process().await).await;
        for sql in [
            "select n_name, n_nationkey from tpch.nation where 1 = 0",
            "select n_name, n_nationkey from tpch.nation limit 0",
        ] {
            let result = rows(&mut connection, sql).await;
            assert_eq!((result.rows.len(), result.schema.fields().len()), (0, 2));
            let info = plain.execute(sql.to_string(), None).await.unwrap();
            let stream = plain.do_get(ticket(&info)).await.unwrap();
            let (schema, batches) = with_schema(stream).await;
            assert_eq!(schema.map(|schema| schema.fields().len()), Some(2));
            assert!(batches.is_empty());
        }
    });
}

#[test]
fn a_select_is_one_endpoint_without_a_location_and_serves_once() {
    run(async {
        let mut client = plain(one_process().await).await;
        let info = client.execute("select n_name from tpch.nation".to_string(), None).await.unwrap();
        assert_eq!((info.endpoint.len(), info.endpoint[0].location.len()), (1, 0));
        assert_eq!(info.total_records, -1);
        assert!(!info.schema.is_empty());
        let announced = info.clone().try_decode_schema().unwrap();
        let batches = fetch(&mut client, &info).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 25);
        assert_eq!(batches[0].schema().fields(), announced.fields());
        let again = fetch(&mut client, &info).await.unwrap_err();
        assert_eq!(again.code(), Code::NotFound, "{again}");
    });
}

#[test]
fn a_change_runs_once_where_its_info_is_asked_for_and_its_count_is_kept() {
    run(async {
        let cluster = one_process().await;
        let mut connection = cluster.connect().await;
        let schema = fresh_schema(&mut connection, "once").await;
        rows::run(&mut connection, &format!("create table {schema}.t (id bigint)")).await;
        let mut client = plain(cluster).await;
        let info = client.execute(format!("insert into {schema}.t values (1), (2)"), None).await.unwrap();
        assert_eq!(info.total_records, 2);
        assert!(!info.schema.is_empty(), "some clients cannot read an absent schema");
        let count = format!("select count(*) from {schema}.t");
        assert_eq!(value(&mut connection, &count).await, "2", "before anybody fetched");
        for _ in 0..2 {
            let batches = fetch(&mut client, &info).await.unwrap();
            assert_eq!(batches[0].num_rows(), 1);
        }
        assert_eq!(value(&mut connection, &count).await, "2", "after it was fetched twice");
        assert_eq!(connection.update(&format!("insert into {schema}.t values (3)")).await.unwrap(), 1);
        assert_eq!(value(&mut connection, &count).await, "3");
        let error = connection.update("select 1").await.unwrap_err();
        assert_eq!(code(&error), "invalid_argument");
    });
}

#[test]
fn a_forged_ticket_is_refused() {
    run(async {
        let mut client = plain(one_process().await).await;
        let info = client.execute("select n_name from tpch.nation".to_string(), None).await.unwrap();
        let good = ticket(&info).ticket;
        let mut forgeries = vec![Vec::new(), b"garbage".to_vec(), good[..good.len() / 2].to_vec()];
        for position in [0, good.len() / 2, good.len() - 1] {
            let mut forged = good.to_vec();
            forged[position] ^= 1;
            forgeries.push(forged);
        }
        for forged in forgeries {
            let status = fetch_ticket(&mut client, Ticket::new(forged)).await.unwrap_err();
            let expected = [
                Code::InvalidArgument,
                Code::Unauthenticated,
                Code::NotFound,
                Code::PermissionDenied,
                Code::Unimplemented,
            ];
            assert!(expected.contains(&status.code()), "{status}");
        }
        assert_eq!(
            fetch(&mut client, &info).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(),
            25
        );
    });
}

#[test]
fn an_expired_ticket_is_refused() {
    run(async {
        let mut data = Data::empty();
        data.config.scheduler.flight_sql.ticket_ttl_s = 1;
        let cluster = Cluster::one_process(&data).await;
        let mut client = plain(&cluster).await;
        let info = client.execute("select 1 as x".to_string(), None).await.unwrap();
        // The passing of time is what is tested.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let status = fetch(&mut client, &info).await.unwrap_err();
        assert!(
            [Code::NotFound, Code::Unauthenticated, Code::InvalidArgument].contains(&status.code()),
            "{status}"
        );
        assert!(status.message().contains("expire"), "{status}");
        let info = client.execute("select 1 as x".to_string(), None).await.unwrap();
        assert_eq!(fetch(&mut client, &info).await.unwrap().len(), 1);
        cluster.stop().await;
    });
}

#[test]
fn get_schema_answers_without_running_anything() {
    run(async {
        let mut client = plain(one_process().await).await;
        let command = CommandStatementQuery {
            query: "select n_name as n from tpch.nation".into(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let answer = client.inner_mut().get_schema(descriptor).await.unwrap().into_inner();
        let schema = Schema::try_from(&answer).unwrap();
        assert_eq!(schema.field(0).name(), "n");
        assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
    });
}

#[test]
fn errors_carry_status_code_and_query_id() {
    run(async {
        let mut client = plain(one_process().await).await;
        for (sql, status_code, code) in [
            ("select", Code::InvalidArgument, "syntax_error"),
            ("select 1; select 2", Code::InvalidArgument, "syntax_error"),
            ("", Code::InvalidArgument, "syntax_error"),
            ("select * from tpch.no_such", Code::NotFound, "not_found"),
            ("select no_such from tpch.nation", Code::InvalidArgument, "invalid_argument"),
            ("create schema tpch", Code::AlreadyExists, "already_exists"),
            ("delete from tpch.nation", Code::Unimplemented, "not_supported"),
        ] {
            let error = client.execute(sql.to_string(), None).await.unwrap_err();
            let error = Error::from(status_of(error));
            let refusal = error.refusal().unwrap();
            let seen = (refusal.status, refusal.code.as_deref());
            let column = sql.contains("no_such from") && seen.1 == Some("not_found");
            assert!(column || seen == (status_code, Some(code)), "{sql:?}: {refusal:?}");
            assert!(
                refusal
                    .message
                    .chars()
                    .next()
                    .is_some_and(|first| !first.is_uppercase() || code == "syntax_error"),
                "{refusal:?}"
            );
        }
    });
}

#[test]
fn text_with_comments_and_a_semicolon_is_one_statement() {
    run(async {
        let mut connection = one_process().await.connect().await;
        assert_eq!(value(&mut connection, "-- one\nselect /* two; */ 1; -- three").await, "1");
        assert_eq!(value(&mut connection, "select ';--' as \"a;b\";;").await, ";--");
    });
}

#[test]
fn odd_column_names_come_back_unchanged() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let result =
            rows(&mut connection, "select 1 as \"a.b\", 2 as \"A b\", 3 as \"ü\", 4 as \"q\"\"q\"").await;
        let names: Vec<_> = result.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a.b", "A b", "ü", "q\"q"]);
        assert_eq!(result.text(), [["1", "2", "3", "4"]]);
    });
}

#[test]
fn a_wide_row_and_many_columns_arrive() {
    run(async {
        let mut connection = one_process().await.connect().await;
        assert_eq!(value(&mut connection, "select length(repeat('x', 5000000)) as n").await, "5000000");
        let long = rows(&mut connection, "select repeat('x', 5000000) as x").await;
        assert_eq!(long.value().len(), 5_000_000);
        let columns: Vec<_> = (0..1000).map(|n| format!("{n} as c{n}")).collect();
        let wide = rows(&mut connection, &format!("select {}", columns.join(", "))).await;
        assert_eq!(wide.schema.fields().len(), 1000);
        assert_eq!(wide.text()[0][999], "999");
    });
}

// Prepared statements.

#[test]
fn a_prepared_select_takes_parameters_of_both_spellings_again_and_again() {
    run(async {
        let mut connection = one_process().await.connect().await;
        for placeholder in ["?", "$1"] {
            let sql = format!(
                "select n_name from tpch.nation where n_nationkey = {placeholder} and '?' <> '$1' -- ?"
            );
            let mut prepared = connection.prepare(&sql).await.unwrap();
            assert_eq!(prepared.schema().field(0).name(), "n_name");
            assert_eq!(prepared.parameters().fields().len(), 1);
            assert_eq!(prepared.parameters().field(0).data_type(), &DataType::Int64);
            for (key, name) in [(3, "CANADA"), (7, "GERMANY")] {
                prepared.bind(batch([("p", Arc::new(Int64Array::from(vec![key])) as ArrayRef)])).unwrap();
                assert_eq!(collect(prepared.query().await.unwrap()).await.unwrap().value(), name);
            }
            prepared.close().await.unwrap();
        }
    });
}

#[test]
fn parameters_are_typed_by_their_place() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let sql = "select count(*) from tpch.orders where o_orderkey > ? and o_orderdate < ? and o_totalprice > ? \
                   and o_comment like ? and o_shippriority in (?, ?) limit ?";
        let prepared = connection.prepare(sql).await.unwrap();
        let parameters = prepared.parameters();
        let types: Vec<_> = parameters.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types.len(), 7);
        assert_eq!((&types[0], &types[1]), (&DataType::Int64, &DataType::Date32));
        assert!(matches!(types[2], DataType::Decimal128(_, 2)), "{types:?}");
        assert_eq!((&types[3], &types[4], &types[5]), (&DataType::Utf8, &DataType::Int32, &DataType::Int32));
        assert_eq!(types[6], DataType::Int64);
        assert!(parameters.fields().iter().all(|field| field.is_nullable()));
    });
}

#[test]
fn parameters_in_other_types_than_declared_are_converted() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let mut prepared =
            connection.prepare("select n_name from tpch.nation where n_nationkey = ?").await.unwrap();
        let spellings: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![3])),
            Arc::new(StringArray::from(vec!["3"])),
            Arc::new(Decimal128Array::from(vec![300]).with_precision_and_scale(9, 2).unwrap()),
        ];
        for spelling in spellings {
            let data_type = spelling.data_type().clone();
            prepared.bind(batch([("p", spelling)])).unwrap();
            assert_eq!(
                collect(prepared.query().await.unwrap()).await.unwrap().value(),
                "CANADA",
                "{data_type}"
            );
        }
        prepared.bind(batch([("p", Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef)])).unwrap();
        assert!(collect(prepared.query().await.unwrap()).await.unwrap().rows.is_empty());
    });
}

#[test]
fn a_prepared_insert_runs_for_each_row_of_parameters() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let schema = fresh_schema(&mut connection, "prepared").await;
        rows::run(&mut connection, &format!("create table {schema}.t (id bigint, name varchar)")).await;
        let mut prepared =
            connection.prepare(&format!("insert into {schema}.t values (?, ?)")).await.unwrap();
        assert_eq!(prepared.schema().fields().len(), 0, "a change has no rows");
        let parameters = || {
            let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
            let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
            batch([("id", ids), ("name", names)])
        };
        prepared.bind(parameters()).unwrap();
        assert_eq!(prepared.update().await.unwrap(), 3);
        assert_eq!(prepared.update().await.unwrap(), 3);
        let seen =
            rows(&mut connection, &format!("select count(*), sum(id), count(name) from {schema}.t")).await;
        assert_eq!(seen.text(), [["6", "12", "4"]]);
    });
}

#[test]
fn preparing_a_change_does_nothing_yet() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let schema = fresh_schema(&mut connection, "prepared_ddl").await;
        let mut prepared = connection.prepare(&format!("create table {schema}.t (id int)")).await.unwrap();
        assert_eq!(code(&refused(&mut connection, &format!("select * from {schema}.t")).await), "not_found");
        prepared.update().await.unwrap();
        assert_eq!(rows(&mut connection, &format!("select * from {schema}.t")).await.rows.len(), 0);
        let again = prepared.update().await.unwrap_err();
        assert_eq!(code(&again), "already_exists");
    });
}

#[test]
fn a_prepared_statement_sees_the_table_as_it_is_when_it_runs() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let schema = fresh_schema(&mut connection, "pins_late").await;
        rows::run(&mut connection, &format!("create table {schema}.t (id bigint)")).await;
        let mut prepared = connection.prepare(&format!("select count(*) from {schema}.t")).await.unwrap();
        for expected in ["0", "1", "2"] {
            assert_eq!(collect(prepared.query().await.unwrap()).await.unwrap().value(), expected);
            rows::run(&mut connection, &format!("insert into {schema}.t values (1)")).await;
        }
    });
}

#[test]
fn a_prepared_statement_with_a_mistake_is_refused_at_once() {
    run(async {
        let mut connection = one_process().await.connect().await;
        for sql in [
            "select * from tpch.no_such",
            "select ? from",
            "select n_name from tpch.nation where no_such = ?",
        ] {
            assert!(connection.prepare(sql).await.is_err(), "{sql}");
        }
        assert_eq!(value(&mut connection, "select 1").await, "1");
    });
}

// Metadata.

#[test]
fn catalogs_schemas_and_tables_are_listed() {
    run(async {
        let mut connection = one_process().await.connect().await;
        assert!(connection.catalogs().await.unwrap().contains(&"lake".to_string()));
        let schemas = connection.schemas(Some("lake")).await.unwrap();
        assert!(schemas.contains(&("lake".to_string(), "tpch".to_string())), "{schemas:?}");
        assert!(connection.schemas(Some("no_such")).await.unwrap().is_empty());
        let tables = connection.tables(Some("lake"), Some("tpch")).await.unwrap();
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(
            names,
            ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
        );
        assert!(tables.iter().all(|table| table.kind == "TABLE"));
        assert!(connection.tables(None, Some("tpc_")).await.unwrap().len() >= 8);
        assert!(connection.tables(None, Some("tpc\\_")).await.unwrap().is_empty());
    });
}

#[test]
fn tables_come_with_their_schemas_in_wire_types() {
    run(async {
        let mut client = plain(one_process().await).await;
        let command = CommandGetTables {
            db_schema_filter_pattern: Some("tpch".into()),
            table_name_filter_pattern: Some("orders".into()),
            table_types: vec!["BASE TABLE".into()],
            include_schema: true,
            ..Default::default()
        };
        let info = client.get_tables(command).await.unwrap();
        let batches = fetch(&mut client, &info).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        let bytes = batches[0].column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
        let schema = Schema::try_from(IpcMessage(bytes.into())).unwrap();
        let field = |name: &str| schema.field_with_name(name).unwrap().clone();
        assert_eq!(field("o_comment").data_type(), &DataType::Utf8);
        assert_eq!(field("o_totalprice").data_type(), &DataType::Decimal128(15, 2));
        let metadata = field("o_totalprice").metadata().clone();
        assert_eq!(metadata.get("ARROW:FLIGHT:SQL:PRECISION").map(String::as_str), Some("15"));
        assert_eq!(metadata.get("ARROW:FLIGHT:SQL:SCALE").map(String::as_str), Some("2"));
        assert!(metadata.contains_key("ARROW:FLIGHT:SQL:TYPE_NAME"), "{metadata:?}");
    });
}

#[test]
fn what_clients_ask_about_the_server_is_answered() {
    run(async {
        let mut client = plain(one_process().await).await;
        let info = client.get_sql_info(Vec::new()).await.unwrap();
        let sql_info: usize =
            fetch(&mut client, &info).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert!(sql_info > 60, "{sql_info} entries of SqlInfo");
        let info = client.get_table_types().await.unwrap();
        let types = fetch(&mut client, &info).await.unwrap();
        assert!(types[0].column(0).as_string::<i32>().iter().flatten().any(|name| name == "TABLE"));
        let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
        assert!(fetch(&mut client, &info).await.unwrap()[0].num_rows() > 8);
        let keys =
            CommandGetPrimaryKeys { catalog: None, db_schema: Some("tpch".into()), table: "nation".into() };
        let info = client.get_primary_keys(keys).await.unwrap();
        assert_eq!(
            fetch(&mut client, &info).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(),
            0
        );
        let schemas = CommandGetDbSchemas { catalog: Some(String::new()), db_schema_filter_pattern: None };
        let info = client.get_db_schemas(schemas).await.unwrap();
        let rows: usize = fetch(&mut client, &info).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 0, "an empty catalog name means those without a catalog");
    });
}

// Sessions.

#[test]
fn sessions_do_not_share_settings_or_place() {
    run(async {
        let cluster = one_process().await;
        let (mut one, mut two) = (cluster.connect().await, cluster.connect().await);
        rows::run(&mut one, "use tpch").await;
        rows::run(&mut one, "set query_timeout = '7s'").await;
        assert_eq!(one.location().await.unwrap(), ("lake".to_string(), "tpch".to_string()));
        assert_eq!(value(&mut one, "select count(*) from nation").await, "25");
        assert_eq!(two.location().await.unwrap().1, "default");
        assert_eq!(rows(&mut two, "show query_timeout").await.text()[0][1], "10m");
        assert_eq!(code(&refused(&mut two, "select count(*) from nation").await), "not_found");
        // Plain clients without cookies are told apart by their connection.
        let (mut three, mut four) = (plain(cluster).await, plain(cluster).await);
        let info = three.execute("use tpch".to_string(), None).await.unwrap();
        fetch(&mut three, &info).await.unwrap();
        let info = three.execute("select count(*) from nation".to_string(), None).await.unwrap();
        assert_eq!(fetch(&mut three, &info).await.unwrap()[0].num_rows(), 1);
        assert!(four.execute("select count(*) from nation".to_string(), None).await.is_err());
    });
}

#[test]
fn a_closed_session_is_over_and_others_go_on() {
    run(async {
        let cluster = one_process().await;
        let (one, mut two) = (cluster.connect().await, cluster.connect().await);
        one.close().await.unwrap();
        assert_eq!(value(&mut two, "select 1").await, "1");
    });
}

#[test]
fn an_unknown_action_is_refused_and_known_ones_are_listed() {
    run(async {
        let mut client = plain(one_process().await).await;
        let listed = client.inner_mut().list_actions(arrow_flight::Empty {}).await.unwrap().into_inner();
        let names: Vec<_> = listed.map_ok(|action| action.r#type).try_collect().await.unwrap();
        for name in ["CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "CloseSession"]
        {
            assert!(names.iter().any(|listed| listed == name), "{name} in {names:?}");
        }
        assert!(
            !names.iter().any(|name| name == "BeginTransaction"),
            "what is not offered is not listed: {names:?}"
        );
        let status = client.inner_mut().do_action(Action::new("NoSuchAction", "")).await.err();
        assert!(
            status
                .is_some_and(|status| [Code::Unimplemented, Code::InvalidArgument].contains(&status.code()))
        );
        let descriptor = FlightDescriptor::new_cmd(b"garbage".to_vec());
        assert!(client.inner_mut().get_flight_info(descriptor).await.is_err());
        let descriptor = FlightDescriptor::new_path(vec!["a".into()]);
        assert!(client.inner_mut().get_flight_info(descriptor).await.is_err());
    });
}

async fn plain(cluster: &Cluster) -> Plain {
    let address = format!("http://{}", cluster.addresses().flight_sql);
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let client = FlightServiceClient::new(channel).max_decoding_message_size(64 << 20);
    FlightSqlServiceClient::new_from_inner(client)
}

fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().unwrap()
}

async fn fetch(client: &mut Plain, info: &FlightInfo) -> Result<Vec<RecordBatch>, Status> {
    fetch_ticket(client, ticket(info)).await
}

async fn fetch_ticket(client: &mut Plain, ticket: Ticket) -> Result<Vec<RecordBatch>, Status> {
    let stream = client.do_get(ticket).await.map_err(status_of)?;
    stream.try_collect().await.map_err(status_of)
}

/// The schema message of a stream, which an empty result must have too, and its rows.
async fn with_schema(
    mut stream: arrow_flight::decode::FlightRecordBatchStream,
) -> (Option<arrow::datatypes::SchemaRef>, Vec<RecordBatch>) {
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        batches.push(batch);
    }
    (stream.schema().cloned(), batches)
}

/// The gRPC status below whatever the plain client made of it.
fn status_of(error: arrow_flight::error::FlightError) -> Status {
    match error {
        arrow_flight::error::FlightError::Tonic(status) => *status,
        other => Status::unknown(other.to_string()),
    }
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

// The Flight SQL JDBC driver against a running Tarn.
//
// A plain program without a test library: each check is a method, the last line is `N passed, N failed`,
// and the exit code says whether any failed. The server holds the demo data (schema `tpch`); what the
// checks create lives in a schema of their own and is dropped at the end.
//
//   javac -d OUT JdbcSuite.java
//   java --add-opens=java.base/java.nio=org.apache.arrow.memory.core,ALL-UNNAMED -Duser.timezone=UTC \
//        -cp OUT:flight-sql-jdbc-driver-18.3.0.jar JdbcSuite grpc://127.0.0.1:32010

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.net.URI;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public final class JdbcSuite {
    private final String jdbcUrl;
    private final String schema = "jdbc_" + UUID.randomUUID().toString().substring(0, 8);
    private Connection connection;
    private int passed;
    private int failed;

    public static void main(String[] arguments) throws Exception {
        URI url = URI.create(arguments[0]);
        var suite = new JdbcSuite("jdbc:arrow-flight-sql://" + url.getHost() + ":" + url.getPort() + "/?useEncryption=false");
        suite.run();
        System.out.println(suite.passed + " passed, " + suite.failed + " failed");
        System.exit(suite.failed == 0 && suite.passed > 0 ? 0 : 1);
    }

    private JdbcSuite(String jdbcUrl) {
        this.jdbcUrl = jdbcUrl;
    }

    private void run() throws Exception {
        connection = DriverManager.getConnection(jdbcUrl);
        DatabaseMetaData metadata = connection.getMetaData();
        System.out.println("driver " + metadata.getDriverName() + " " + metadata.getDriverVersion());

        check("a constant comes back", this::constant);
        check("every wire type comes back as its Java value", this::values);
        check("a column's label, type, precision and scale are described", this::resultSetMetaData);
        check("aggregates over a join are right", this::aggregates);
        check("a result of many batches arrives whole", this::manyBatches);
        check("an empty result has its columns", this::emptyResult);
        check("a result that is closed early leaves the connection usable", this::closedEarly);
        check("a statement with a mistake is refused with line and column", this::syntaxError);
        check("an unknown table is refused with a near name", this::unknownTable);

        check("create schema and create table run once and report no rows", this::createTable);
        check("insert reports the rows and they are there", this::insert);
        check("execute tells a query from an update", this::execute);
        check("a prepared select runs again with other values", this::preparedSelect);
        check("a parameter of every type finds its row", this::preparedTypes);
        check("a parameter may be null", this::preparedNull);
        check("a prepared insert keeps every value exactly", this::preparedInsert);
        check("a batch of inserts lands whole", this::preparedBatch);
        check("create table as select works, drop table too", this::createTableAs);

        check("getCatalogs", this::catalogs);
        check("getSchemas", this::schemas);
        check("getTables", this::tables);
        check("getTables honours patterns and escapes", this::tablePatterns);
        check("getColumns", this::columns);
        check("getTableTypes", this::tableTypes);
        check("getTypeInfo", this::typeInfo);
        check("keys are empty sets, not errors", this::keys);
        check("every plain getter of DatabaseMetaData answers", this::getters);
        check("catalog= in the URL is the session's catalog", this::catalogInUrl);
        check("connections work side by side", this::parallel);

        check("the schema of the checks can be dropped", this::dropSchema);
        connection.close();
    }

    // Queries.

    private void constant() throws SQLException {
        equal(List.of(List.of(1L)), rows("select 1"));
    }

    private void values() throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery(
                        "select cast(7 as int) as i, cast(9000000000 as bigint) as l, cast(1.5 as double) as d,"
                                + " cast(-12.3456 as decimal(18, 4)) as m, 'tärn' as s, true as b,"
                                + " date '2024-02-29' as dt, cast('2024-02-29 12:34:56.123' as timestamp) as ts,"
                                + " cast(null as int) as n")) {
            yes("one row", row.next());
            equal(7, row.getInt("i"));
            equal(9_000_000_000L, row.getLong("l"));
            equal(1.5, row.getDouble("d"));
            equal(new BigDecimal("-12.3456"), row.getBigDecimal("m"));
            equal("tärn", row.getString("s"));
            equal(true, row.getBoolean("b"));
            equal("2024-02-29", row.getDate("dt").toString());
            equal(Timestamp.valueOf("2024-02-29 12:34:56.123"), row.getTimestamp("ts"));
            equal(null, row.getObject("n"));
            yes("null is seen", row.wasNull());
            yes("only one row", !row.next());
        }
    }

    private void resultSetMetaData() throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet result = statement.executeQuery(
                        "select n_name as \"The Name\", n_nationkey, cast(1 as decimal(18, 4)) as price from tpch.nation limit 1")) {
            ResultSetMetaData metadata = result.getMetaData();
            equal(3, metadata.getColumnCount());
            equal("The Name", metadata.getColumnLabel(1));
            equal(Types.VARCHAR, metadata.getColumnType(1));
            equal("n_nationkey", metadata.getColumnName(2));
            equal(Types.BIGINT, metadata.getColumnType(2));
            equal(Types.DECIMAL, metadata.getColumnType(3));
            equal(18, metadata.getPrecision(3));
            equal(4, metadata.getScale(3));
        }
    }

    private void aggregates() throws SQLException {
        var expected = List.of(
                List.<Object>of("AFRICA", 5L), List.<Object>of("AMERICA", 5L), List.<Object>of("ASIA", 5L),
                List.<Object>of("EUROPE", 5L), List.<Object>of("MIDDLE EAST", 5L));
        equal(expected, rows("select r_name, count(*) from tpch.region join tpch.nation on r_regionkey = n_regionkey"
                + " group by r_name order by r_name"));
    }

    private void manyBatches() throws SQLException {
        long announced = (Long) rows("select count(*) from tpch.lineitem").get(0).get(0);
        long sum = (Long) rows("select sum(l_orderkey) from tpch.lineitem").get(0).get(0);
        long seen = 0;
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("select l_orderkey, l_comment from tpch.lineitem")) {
            for (; row.next(); seen++) {
                sum -= row.getLong(1);
            }
        }
        yes("more than one batch", announced > 8192);
        equal(announced, seen);
        equal(0L, sum);
    }

    // Driver 18.3 doubles the columns of a result without rows, with and without a batch in the stream.
    private void emptyResult() throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("select n_name, n_nationkey from tpch.nation where 1 = 0")) {
            // NOTE: 18.3 answers 4 here, the columns twice; a fault of the driver.
            yes("at least its columns", row.getMetaData().getColumnCount() >= 2);
            equal("n_nationkey", row.getMetaData().getColumnLabel(2));
            yes("no row", !row.next());
        }
    }

    private void closedEarly() throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("select * from tpch.lineitem")) {
            yes("a row", row.next());
        }
        equal(List.of(List.of(25L)), rows("select count(*) from tpch.nation"));
    }

    private void syntaxError() throws SQLException {
        SQLException error = refused("select n_name\nfrom tpch.nation wher n_nationkey = 1 order by");
        yes("names the line: " + error.getMessage(), error.getMessage().toLowerCase().contains("line"));
        equal(List.of(List.of(1L)), rows("select 1"));
    }

    private void unknownTable() throws SQLException {
        SQLException error = refused("select * from tpch.natoin");
        yes("names the table: " + error.getMessage(), error.getMessage().contains("natoin"));
        yes("offers the near name: " + error.getMessage(), error.getMessage().contains("nation"));
    }

    // Changes.

    private void createTable() throws SQLException {
        equal(0, update("create schema " + schema));
        equal(0, update("create table " + schema + ".typed (id bigint not null, name varchar, price decimal(18, 4),"
                + " day date, moment timestamp, ok boolean, x double) partitioned by (day(moment))"));
        equal(List.of(List.of(0L)), rows("select count(*) from " + schema + ".typed"));
    }

    private void insert() throws SQLException {
        equal(2, update("insert into " + schema + ".typed values"
                + " (1, 'one', 1.25, date '2024-01-01', timestamp '2024-01-01 10:00:00', true, 0.5),"
                + " (2, 'two', 2.5, date '2024-01-02', timestamp '2024-01-02 11:30:00.25', false, -1)"));
        equal(List.of(List.of(1L, "one"), List.of(2L, "two")), rows("select id, name from " + schema + ".typed order by id"));
    }

    private void execute() throws SQLException {
        try (Statement statement = connection.createStatement()) {
            equal(true, statement.execute("select 1"));
            try (ResultSet row = statement.getResultSet()) {
                yes("one row", row.next());
            }
            equal(false, statement.execute("insert into " + schema + ".typed (id) values (3)"));
            equal(1, statement.getUpdateCount());
        }
        equal(List.of(List.of(3L)), rows("select count(*) from " + schema + ".typed"));
    }

    private void createTableAs() throws SQLException {
        String table = schema + ".nation_copy";
        equal(25, update("create table " + table + " as select * from tpch.nation"));
        equal(rows("select * from tpch.nation order by n_nationkey"), rows("select * from " + table + " order by n_nationkey"));
        equal(0, update("drop table " + table));
        refused("select * from " + table);
    }

    // Prepared statements.

    private void preparedSelect() throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("select n_name from tpch.nation where n_nationkey = ?")) {
            equal(1, statement.getParameterMetaData().getParameterCount());
            for (var expected : Map.of(3L, "CANADA", 7L, "GERMANY", 24L, "UNITED STATES").entrySet()) {
                statement.setLong(1, expected.getKey());
                try (ResultSet row = statement.executeQuery()) {
                    yes("a row", row.next());
                    equal(expected.getValue(), row.getString(1));
                    yes("only one", !row.next());
                }
            }
        }
    }

    private void preparedTypes() throws SQLException {
        var conditions = new LinkedHashMap<String, Binding>();
        conditions.put("id = ?", statement -> statement.setLong(1, 2));
        conditions.put("name = ?", statement -> statement.setString(1, "two"));
        conditions.put("price = ?", statement -> statement.setBigDecimal(1, new BigDecimal("2.5000")));
        conditions.put("day = ?", statement -> statement.setDate(1, Date.valueOf("2024-01-02")));
        conditions.put("moment = ?", statement -> statement.setTimestamp(1, Timestamp.valueOf("2024-01-02 11:30:00.25")));
        conditions.put("ok = ?", statement -> statement.setBoolean(1, false));
        conditions.put("x < ?", statement -> statement.setDouble(1, -0.5));
        conditions.put("name like ?", statement -> statement.setString(1, "tw%"));
        for (var condition : conditions.entrySet()) {
            String sql = "select id from " + schema + ".typed where " + condition.getKey();
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                condition.getValue().bind(statement);
                equal(List.of(List.of(2L)), collect(statement.executeQuery()), sql);
            }
        }
    }

    private void preparedNull() throws SQLException {
        try (PreparedStatement statement =
                connection.prepareStatement("select count(*) from " + schema + ".typed where id = ? and name = ?")) {
            statement.setLong(1, 1);
            statement.setNull(2, Types.VARCHAR);
            equal(List.of(List.of(0L)), collect(statement.executeQuery()));
        }
    }

    private void preparedInsert() throws SQLException {
        String table = schema + ".typed";
        Timestamp moment = Timestamp.valueOf("2031-12-31 23:59:59.987");
        try (PreparedStatement statement = connection.prepareStatement("insert into " + table + " values (?, ?, ?, ?, ?, ?, ?)")) {
            statement.setLong(1, Long.MAX_VALUE);
            statement.setString(2, "it's \"quoted\" ? ünïcode");
            statement.setBigDecimal(3, new BigDecimal("-99999999999999.9999"));
            statement.setDate(4, Date.valueOf("1969-12-31"));
            statement.setTimestamp(5, moment);
            statement.setBoolean(6, true);
            statement.setDouble(7, 1e-300);
            equal(1, statement.executeUpdate());
        }
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("select * from " + table + " where id = " + Long.MAX_VALUE)) {
            yes("a row", row.next());
            equal("it's \"quoted\" ? ünïcode", row.getString("name"));
            equal(new BigDecimal("-99999999999999.9999"), row.getBigDecimal("price"));
            equal("1969-12-31", row.getDate("day").toString());
            equal(moment, row.getTimestamp("moment"));
            equal(true, row.getBoolean("ok"));
            equal(1e-300, row.getDouble("x"));
        }
    }

    private void preparedBatch() throws SQLException {
        String table = schema + ".batch";
        update("create table " + table + " (id bigint, name varchar)");
        try (PreparedStatement statement = connection.prepareStatement("insert into " + table + " values (?, ?)")) {
            for (long id = 0; id < 100; id++) {
                statement.setLong(1, id);
                statement.setString(2, "row " + id);
                statement.addBatch();
            }
            statement.executeBatch();
        }
        equal(List.of(List.of(100L, 100L, 4950L)), rows("select count(*), count(distinct name), sum(id) from " + table));
    }

    // DatabaseMetaData.

    private void catalogs() throws SQLException {
        List<String> names = column(connection.getMetaData().getCatalogs(), "TABLE_CAT");
        yes("the session's catalog is listed: " + names, names.contains(currentCatalog()));
    }

    private void schemas() throws SQLException {
        DatabaseMetaData metadata = connection.getMetaData();
        List<String> names = column(metadata.getSchemas(), "TABLE_SCHEM");
        yes("tpch and ours are listed: " + names, names.containsAll(List.of("tpch", schema)));
        equal(List.of("tpch"), column(metadata.getSchemas(currentCatalog(), "tpc_"), "TABLE_SCHEM"));
        equal(List.of(), column(metadata.getSchemas("no such catalog", null), "TABLE_SCHEM"));
    }

    private void tables() throws SQLException {
        var expected = List.of("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier");
        DatabaseMetaData metadata = connection.getMetaData();
        equal(expected, column(metadata.getTables(currentCatalog(), "tpch", null, null), "TABLE_NAME"));
        equal(expected, column(metadata.getTables(null, "tpch", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME"));
        equal(List.of(), column(metadata.getTables(null, "tpch", "%", new String[] {"VIEW"}), "TABLE_NAME"));
        Set<String> types = new TreeSet<>(column(metadata.getTables(null, "tpch", "%", null), "TABLE_TYPE"));
        equal(Set.of("TABLE"), types);
    }

    private void tablePatterns() throws SQLException {
        update("create table " + schema + ".a_b (id int)");
        update("create table " + schema + ".axb (id int)");
        DatabaseMetaData metadata = connection.getMetaData();
        equal(List.of("a_b", "axb"), column(metadata.getTables(null, schema, "a_b", null), "TABLE_NAME"));
        String escaped = "a" + metadata.getSearchStringEscape() + "_b";
        equal(List.of("a_b"), column(metadata.getTables(null, schema, escaped, null), "TABLE_NAME"));
        equal(List.of("part", "partsupp"), column(metadata.getTables(null, "tpch", "part%", null), "TABLE_NAME"));
    }

    private void columns() throws SQLException {
        var expected = List.of(
                List.<Object>of("id", Types.BIGINT, 1, DatabaseMetaData.columnNoNulls),
                List.<Object>of("name", Types.VARCHAR, 2, DatabaseMetaData.columnNullable),
                List.<Object>of("price", Types.DECIMAL, 3, DatabaseMetaData.columnNullable),
                List.<Object>of("day", Types.DATE, 4, DatabaseMetaData.columnNullable),
                List.<Object>of("moment", Types.TIMESTAMP, 5, DatabaseMetaData.columnNullable),
                List.<Object>of("ok", Types.BOOLEAN, 6, DatabaseMetaData.columnNullable),
                List.<Object>of("x", Types.DOUBLE, 7, DatabaseMetaData.columnNullable));
        var seen = new ArrayList<List<Object>>();
        try (ResultSet row = connection.getMetaData().getColumns(null, schema, "typed", null)) {
            while (row.next()) {
                int type = row.getInt("DATA_TYPE");
                seen.add(List.of(row.getString("COLUMN_NAME"), type == Types.BIT ? Types.BOOLEAN : type,
                        row.getInt("ORDINAL_POSITION"), row.getInt("NULLABLE")));
                equal(schema, row.getString("TABLE_SCHEM"));
                yes("a type name", row.getString("TYPE_NAME") != null);
                if (type == Types.DECIMAL) {
                    equal(18, row.getInt("COLUMN_SIZE"));
                    equal(4, row.getInt("DECIMAL_DIGITS"));
                }
            }
        }
        equal(expected, seen);
        equal(List.of("n_name", "n_nationkey"),
                column(connection.getMetaData().getColumns(null, "tpch", "nation", "n_na%"), "COLUMN_NAME").stream().sorted().toList());
    }

    private void tableTypes() throws SQLException {
        yes("TABLE is a table type", column(connection.getMetaData().getTableTypes(), "TABLE_TYPE").contains("TABLE"));
    }

    private void typeInfo() throws SQLException {
        try (ResultSet row = connection.getMetaData().getTypeInfo()) {
            var names = new ArrayList<String>();
            while (row.next()) {
                names.add(row.getString("TYPE_NAME"));
            }
            // The driver answers with an empty set of its own; it must not be an error.
            System.out.println("  " + names.size() + " types " + names);
        }
    }

    private void keys() throws SQLException {
        DatabaseMetaData metadata = connection.getMetaData();
        String catalog = currentCatalog();
        equal(0, collect(metadata.getPrimaryKeys(catalog, "tpch", "nation")).size());
        equal(0, collect(metadata.getImportedKeys(catalog, "tpch", "nation")).size());
        equal(0, collect(metadata.getExportedKeys(catalog, "tpch", "nation")).size());
        equal(0, collect(metadata.getCrossReference(catalog, "tpch", "nation", catalog, "tpch", "region")).size());
    }

    private void getters() throws IllegalAccessException, SQLException {
        DatabaseMetaData metadata = connection.getMetaData();
        var broken = new TreeSet<String>();
        int called = 0;
        for (Method method : DatabaseMetaData.class.getMethods()) {
            boolean plain = method.getParameterCount() == 0 && !method.getReturnType().equals(ResultSet.class);
            if (!plain) {
                continue;
            }
            called++;
            try {
                method.invoke(metadata);
            } catch (InvocationTargetException error) {
                broken.add(method.getName() + ": " + error.getCause());
            }
        }
        yes("many getters", called > 100);
        equal(Set.of(), broken);
        yes("a product name", metadata.getDatabaseProductName() != null && !metadata.getDatabaseProductName().isEmpty());
        equal("\"", metadata.getIdentifierQuoteString());
    }

    // Sessions.

    private void catalogInUrl() throws SQLException {
        Connection other = DriverManager.getConnection(jdbcUrl + "&catalog=" + currentCatalog());
        try (Statement statement = other.createStatement()) {
            equal(List.of(List.of(25L)), collect(statement.executeQuery("select count(*) from tpch.nation")));
        }
        try {
            other.close();
        } catch (SQLException error) {
            // Driver 18.3 closes the session twice, the second time over a channel that it has shut down.
            yes("the driver's own fault: " + error, error.getMessage().contains("Channel shutdown invoked"));
        }
    }

    private void parallel() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        try {
            var answers = new ArrayList<Future<Long>>();
            for (int client = 0; client < 4; client++) {
                answers.add(pool.submit(() -> {
                    long sum = 0;
                    try (Connection other = DriverManager.getConnection(jdbcUrl); Statement statement = other.createStatement()) {
                        for (int i = 0; i < 5; i++) {
                            sum += (Long) collect(statement.executeQuery("select count(*) from tpch.nation")).get(0).get(0);
                        }
                    }
                    return sum;
                }));
            }
            for (Future<Long> answer : answers) {
                equal(125L, answer.get());
            }
        } finally {
            pool.shutdownNow();
        }
    }

    // Helpers.

    private interface Check {
        void run() throws Exception;
    }

    private interface Binding {
        void bind(PreparedStatement statement) throws SQLException;
    }

    private void check(String name, Check body) {
        try {
            body.run();
            passed++;
            System.out.println("ok      " + name);
        } catch (Throwable error) {
            failed++;
            System.out.println("FAILED  " + name);
            error.printStackTrace(System.out);
        }
    }

    private void dropSchema() throws SQLException {
        for (String table : column(connection.getMetaData().getTables(null, schema, null, null), "TABLE_NAME")) {
            update("drop table " + schema + "." + table + " purge");
        }
        update("drop schema " + schema);
    }

    private String currentCatalog() throws SQLException {
        List<String> names = column(connection.getMetaData().getTables(null, "tpch", "nation", null), "TABLE_CAT");
        equal(1, names.size());
        return names.get(0);
    }

    private int update(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    private List<List<Object>> rows(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return collect(statement.executeQuery(sql));
        }
    }

    private SQLException refused(String sql) {
        try {
            rows(sql);
        } catch (SQLException error) {
            return error;
        }
        throw new AssertionError("should have been refused: " + sql);
    }

    private static List<List<Object>> collect(ResultSet result) throws SQLException {
        var rows = new ArrayList<List<Object>>();
        try (result) {
            int width = result.getMetaData().getColumnCount();
            while (result.next()) {
                Object[] row = new Object[width];
                for (int i = 0; i < width; i++) {
                    row[i] = result.getObject(i + 1);
                }
                rows.add(Arrays.asList(row));
            }
        }
        return rows;
    }

    private static List<String> column(ResultSet result, String name) throws SQLException {
        var values = new ArrayList<String>();
        try (result) {
            while (result.next()) {
                values.add(result.getString(name));
            }
        }
        return values;
    }

    private static void equal(Object expected, Object seen) {
        equal(expected, seen, "");
    }

    private static void equal(Object expected, Object seen, String about) {
        if (!Objects.equals(expected, seen)) {
            throw new AssertionError(about + " expected " + expected + ", got " + seen);
        }
    }

    private static void yes(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError("not so: " + what);
        }
    }
}

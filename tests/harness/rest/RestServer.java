package org.apache.iceberg.rest;

import java.net.InetSocketAddress;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.gzip.GzipHandler;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/** Iceberg's own REST fixture over a SQLite file, on loopback only: the class it ships listens everywhere. */
public final class RestServer {
  public static void main(String[] args) throws Exception {
    Map<String, String> properties = new java.util.HashMap<>(RCKUtils.environmentCatalogConfig());
    properties.putIfAbsent("catalog-impl", JdbcCatalog.class.getName());
    properties.putIfAbsent("jdbc.schema-version", "V1");
    int port = Integer.parseInt(System.getenv().getOrDefault("REST_PORT", "0"));
    Catalog catalog = CatalogUtil.buildIcebergCatalog("rest", properties, new Configuration());
    RESTCatalogAdapter adapter =
        new RESTServerCatalogAdapter(new RESTCatalogServer.CatalogContext(catalog, properties));
    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.NO_SESSIONS);
    context.addServlet(new ServletHolder(new RESTCatalogServlet(adapter)), "/*");
    context.insertHandler(new GzipHandler());
    Server server = new Server(new InetSocketAddress("127.0.0.1", port));
    server.setHandler(context);
    server.start();
    System.out.println("port " + ((ServerConnector) server.getConnectors()[0]).getLocalPort());
    System.out.flush();
    // It lives as long as its parent holds its standard input open.
    while (System.in.read() != -1) {}
    server.stop();
    System.exit(0);
  }
}

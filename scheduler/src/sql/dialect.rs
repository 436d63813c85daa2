//! Our dialect: the generic one, read as the SQL standard wants where that reads it differently.
//!
//! A dialect says what it is by some hundred answers; ours are all those of [`GenericDialect`], handed on one by
//! one, and the lint below fails when the parser learns a question that is not. The rule: only what this room reads
//! in another way stands here by itself.

use std::any::TypeId;
use std::iter::Peekable;
use std::str::Chars;

use datafusion::sql::sqlparser::ast::{ColumnOption, Expr, GranteesType, Ident, ObjectNamePart, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

const GENERIC: GenericDialect = GenericDialect {};

/// Names, quotes, operators and statements as Tarn reads them.
#[derive(Debug)]
pub(crate) struct TarnDialect;

/// Answers that are those of the generic dialect.
macro_rules! generic {
    ($($name:ident),* $(,)?) => {
        $(fn $name(&self) -> bool { GENERIC.$name() })*
    };
}

#[deny(clippy::missing_trait_methods)]
impl Dialect for TarnDialect {
    /// `a IS [NOT] DISTINCT FROM b AND c` compares `a` with `b`, not with `b AND c`.
    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        const IS_DISTINCT: [Keyword; 3] = [Keyword::IS, Keyword::DISTINCT, Keyword::FROM];
        const IS_NOT_DISTINCT: [Keyword; 4] = [Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM];
        let distinct = parser.parse_keywords(&IS_DISTINCT);
        if !distinct && !parser.parse_keywords(&IS_NOT_DISTINCT) {
            return GENERIC.parse_infix(parser, expr, precedence);
        }
        let left = Box::new(expr.clone());
        let right = parser.parse_subexpr(self.prec_value(Precedence::Is)).map(Box::new);
        Some(right.map(|right| {
            if distinct { Expr::IsDistinctFrom(left, right) } else { Expr::IsNotDistinctFrom(left, right) }
        }))
    }

    // The parser asks some dialects by their type.
    fn dialect(&self) -> TypeId {
        GENERIC.dialect()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GENERIC.is_delimited_identifier_start(ch)
    }

    fn is_nested_delimited_identifier_start(&self, ch: char) -> bool {
        GENERIC.is_nested_delimited_identifier_start(ch)
    }

    fn peek_nested_delimited_identifier_quotes(
        &self,
        chars: Peekable<Chars<'_>>,
    ) -> Option<(char, Option<char>)> {
        GENERIC.peek_nested_delimited_identifier_quotes(chars)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        GENERIC.identifier_quote_style(identifier)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GENERIC.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GENERIC.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        GENERIC.is_custom_operator_part(ch)
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        GENERIC.parse_prefix(parser)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        GENERIC.get_next_precedence(parser)
    }

    fn get_next_precedence_default(&self, parser: &Parser<'_>) -> Result<u8, ParserError> {
        GENERIC.get_next_precedence_default(parser)
    }

    fn parse_statement(&self, parser: &mut Parser<'_>) -> Option<Result<Statement, ParserError>> {
        GENERIC.parse_statement(parser)
    }

    fn parse_column_option(
        &self,
        parser: &mut Parser<'_>,
    ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError> {
        GENERIC.parse_column_option(parser)
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        GENERIC.prec_value(prec)
    }

    fn prec_unknown(&self) -> u8 {
        GENERIC.prec_unknown()
    }

    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        GENERIC.is_reserved_for_identifier(kw)
    }

    fn get_reserved_keywords_for_select_item_operator(&self) -> &[Keyword] {
        GENERIC.get_reserved_keywords_for_select_item_operator()
    }

    fn get_reserved_grantees_types(&self) -> &[GranteesType] {
        GENERIC.get_reserved_grantees_types()
    }

    fn is_column_alias(&self, kw: &Keyword, parser: &mut Parser<'_>) -> bool {
        GENERIC.is_column_alias(kw, parser)
    }

    fn is_select_item_alias(&self, explicit: bool, kw: &Keyword, parser: &mut Parser<'_>) -> bool {
        GENERIC.is_select_item_alias(explicit, kw, parser)
    }

    fn is_table_factor(&self, kw: &Keyword, parser: &mut Parser<'_>) -> bool {
        GENERIC.is_table_factor(kw, parser)
    }

    fn is_table_alias(&self, kw: &Keyword, parser: &mut Parser<'_>) -> bool {
        GENERIC.is_table_alias(kw, parser)
    }

    fn is_table_factor_alias(&self, explicit: bool, kw: &Keyword, parser: &mut Parser<'_>) -> bool {
        GENERIC.is_table_factor_alias(explicit, kw, parser)
    }

    fn is_identifier_generating_function_name(&self, ident: &Ident, name_parts: &[ObjectNamePart]) -> bool {
        GENERIC.is_identifier_generating_function_name(ident, name_parts)
    }

    generic! {
        allow_extract_custom,
        allow_extract_single_quotes,
        convert_type_before_value,
        describe_requires_table_keyword,
        ignores_wildcard_escapes,
        require_interval_qualifier,
        requires_single_line_comment_whitespace,
        support_map_literal_syntax,
        supports_alter_column_type_using,
        supports_array_join_syntax,
        supports_array_typedef_with_brackets,
        supports_array_typedef_without_element_type,
        supports_asc_desc_in_column_definition,
        supports_bang_not_operator,
        supports_binary_kw_as_cast,
        supports_bitwise_shift_operators,
        supports_boolean_literals,
        supports_column_definition_trailing_commas,
        supports_comma_separated_drop_column_list,
        supports_comma_separated_set_assignments,
        supports_comma_separated_trim,
        supports_comment_on,
        supports_comment_optimizer_hint,
        supports_connect_by,
        supports_constraint_keyword_without_name,
        supports_create_index_with_clause,
        supports_create_table_like_parenthesized,
        supports_create_table_multi_schema_info_sources,
        supports_create_table_select,
        supports_create_table_using,
        supports_create_view_comment_syntax,
        supports_cross_join_constraint,
        supports_cte_without_as,
        supports_data_type_signed_suffix,
        supports_detach,
        supports_dictionary_syntax,
        supports_dollar_as_money_prefix,
        supports_dollar_placeholder,
        supports_double_ampersand_operator,
        supports_empty_projections,
        supports_end_transaction_modifier,
        supports_eq_alias_assignment,
        supports_execute_immediate,
        supports_explain_with_utility_options,
        supports_extract_comma_syntax,
        supports_factorial_operator,
        supports_filter_during_aggregation,
        supports_from_first_insert,
        supports_from_first_select,
        supports_from_trailing_commas,
        supports_geometric_types,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_in_empty_list,
        supports_insert_format,
        supports_insert_set,
        supports_insert_table_alias,
        supports_insert_table_function,
        supports_insert_table_query,
        supports_install,
        supports_interpolate,
        supports_interval_options,
        supports_key_column_option,
        supports_lambda_functions,
        supports_left_associative_joins_without_parens,
        supports_limit_by,
        supports_limit_comma,
        supports_listen_notify,
        supports_load_data,
        supports_load_extension,
        supports_long_type_as_bigint,
        supports_map_literal_with_angle_brackets,
        supports_match_against,
        supports_match_recognize,
        supports_multiline_comment_hints,
        supports_named_fn_args_with_assignment_operator,
        supports_named_fn_args_with_colon_operator,
        supports_named_fn_args_with_eq_operator,
        supports_named_fn_args_with_expr_name,
        supports_named_fn_args_with_rarrow_operator,
        supports_nested_comments,
        supports_notnull_operator,
        supports_numeric_literal_underscores,
        supports_numeric_prefix,
        supports_object_name_double_dot_notation,
        supports_optimize_table,
        supports_order_by_all,
        supports_outer_join_operator,
        supports_parens_around_table_factor,
        supports_parenthesized_set_variables,
        supports_partiql,
        supports_partition_by_after_order_by,
        supports_pipe_operator,
        supports_prewhere,
        supports_projection_trailing_commas,
        supports_quote_delimited_string,
        supports_select_exclude,
        supports_select_expr_star,
        supports_select_format,
        supports_select_item_multi_column_alias,
        supports_select_modifiers,
        supports_select_wildcard_except,
        supports_select_wildcard_exclude,
        supports_select_wildcard_ilike,
        supports_select_wildcard_rename,
        supports_select_wildcard_replace,
        supports_select_wildcard_with_alias,
        supports_semantic_view_table_factor,
        supports_set_names,
        supports_set_stmt_without_operator,
        supports_settings,
        supports_show_like_before_in,
        supports_space_separated_column_options,
        supports_start_transaction_modifier,
        supports_string_escape_constant,
        supports_string_literal_backslash_escape,
        supports_string_literal_concatenation,
        supports_string_literal_concatenation_with_newline,
        supports_struct_literal,
        supports_subquery_as_function_arg,
        supports_table_hints,
        supports_table_sample_before_alias,
        supports_table_versioning,
        supports_top_before_distinct,
        supports_trailing_commas,
        supports_triple_quoted_string,
        supports_try_convert,
        supports_unicode_string_literal,
        supports_update_order_by,
        supports_user_host_grantee,
        supports_values_as_table_factor,
        supports_window_clause_named_window_reference,
        supports_window_function_null_treatment_arg,
        supports_with_fill,
        supports_within_after_array_aggregation,
        supports_xml_expressions,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::visit_expressions_mut;

    use super::*;

    #[test]
    fn distinct_binds_as_is_null_does() {
        for (sql, read) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("c AND a IS DISTINCT FROM b OR d", "(c AND (a IS DISTINCT FROM b)) OR d"),
            ("NOT a IS NOT DISTINCT FROM b OR c", "(NOT (a IS NOT DISTINCT FROM b)) OR c"),
            ("a IS DISTINCT FROM b + 1 AND c", "(a IS DISTINCT FROM (b + 1)) AND c"),
            ("a IS DISTINCT FROM (b AND c)", "a IS DISTINCT FROM (b AND c)"),
            ("a + 1 IS DISTINCT FROM b", "(a + 1) IS DISTINCT FROM b"),
            ("a IS NOT NULL AND b", "(a IS NOT NULL) AND b"),
        ] {
            let parse = |sql| Parser::new(&TarnDialect).try_with_sql(sql).unwrap().parse_expr().unwrap();
            assert_eq!(spelled_out(parse(sql)), spelled_out(parse(read)), "{sql}");
        }
    }

    /// With parentheses around everything but names.
    fn spelled_out(mut expr: Expr) -> String {
        let _ = visit_expressions_mut(&mut expr, |expr| {
            if !matches!(expr, Expr::Nested(_) | Expr::Identifier(_)) {
                *expr = Expr::Nested(Box::new(expr.clone()));
            }
            ControlFlow::<()>::Continue(())
        });
        let _ = visit_expressions_mut(&mut expr, |expr| {
            while let Expr::Nested(inner) = expr
                && matches!(inner.as_ref(), Expr::Nested(_))
            {
                *expr = inner.as_ref().clone();
            }
            ControlFlow::<()>::Continue(())
        });
        expr.to_string()
    }
}

#' Federated analyses with vantage6
#'
#' [vtg_proxy()] gives a client that goes through the user proxy (`v6 proxy`), which seals inputs and opens results
#' with the key of your organization. [vtg_client()] and [authenticate()] go to the server directly, for
#' collaborations that are not encrypted. Then [collaborations()], [create_task()], [wait_task()] and [results()].
#'
#' @keywords internal
"_PACKAGE"

#' A client that goes through the user proxy
#'
#' The proxy is started with `v6 proxy` on this machine, by the same user. It is logged in already, and encrypts: this
#' package needs to know nothing of keys.
#'
#' @param file Where the proxy wrote down its address and its token. Unless given: the environment variable
#'   `VANTAGE6_PROXY`, or the place where `v6 proxy` puts it.
#' @return A client, for the other functions.
#' @examples
#' \dontrun{
#' client <- vtg_proxy()
#' collaborations(client)
#' }
#' @export
vtg_proxy <- function(file = NULL) {
  if (is.null(file)) file <- Sys.getenv("VANTAGE6_PROXY", proxy_file())
  if (!file.exists(file)) stop("no user proxy is running: start one with `v6 proxy` (there is no ", file, ")", call. = FALSE)
  found <- jsonlite::fromJSON(file)
  client <- new_client(found$url, access = found$token, proxied = TRUE)
  client$about <- call_api(client, "GET", "/proxy")
  client
}

#' A client that goes to the server directly
#'
#' For collaborations that are not encrypted. Log in with [authenticate()].
#'
#' @param url Such as `https://server.example`.
#' @param ca_file A file in PEM format with the authorities to trust instead of the system's.
#' @return A client, for the other functions.
#' @examples
#' client <- vtg_client("https://server.example")
#' @export
vtg_client <- function(url, ca_file = NULL) {
  new_client(url, ca_file = ca_file)
}

#' Log in
#'
#' Not needed with [vtg_proxy()], which is logged in already. The log-in is renewed as long as the session lasts.
#'
#' @param client From [vtg_client()].
#' @param username,password Those of the user.
#' @param mfa_code The code of the second factor, where there is one.
#' @return The client, invisibly.
#' @examples
#' \dontrun{
#' client <- vtg_client("https://server.example")
#' authenticate(client, "alice", askpass::askpass())
#' }
#' @export
authenticate <- function(client, username, password, mfa_code = NULL) {
  check_client(client)
  if (client$proxied) stop("the user proxy is logged in already, as ", client$about$username, call. = FALSE)
  body <- list(username = username, password = password)
  body$mfa_code <- mfa_code
  client$access <- ""
  keep_tokens(client, call_api(client, "POST", "/api/token/user", body))
  client$about <- list(username = username, server = client$url, encryption = FALSE)
  invisible(client)
}

#' @export
print.vtg_client <- function(x, ...) {
  who <- if (is.null(x$about)) "nobody is logged in" else x$about$username
  how <- if (isTRUE(x$about$encryption)) "encrypted by the user proxy" else "not encrypted"
  cat("<vtg client> ", who, " at ", if (is.null(x$about)) x$url else x$about$server, ", ", how, "\n", sep = "")
  invisible(x)
}

#' Collaborations and organizations
#'
#' @param client From [vtg_proxy()] or [vtg_client()].
#' @param collaboration Only the organizations of this one (its id).
#' @return A data frame with a row for each.
#' @examples
#' \dontrun{
#' collaborations(client)
#' organizations(client, collaboration = 1)
#' }
#' @export
collaborations <- function(client) {
  found <- call_api(client, "GET", "/api/collaboration")
  data.frame(
    id = pick(found, "id", 0L),
    name = pick(found, "name", ""),
    encrypted = pick(found, "encrypted", FALSE)
  )
}

#' @rdname collaborations
#' @export
organizations <- function(client, collaboration = NULL) {
  path <- "/api/organization"
  if (!is.null(collaboration)) path <- paste0("/api/collaboration/", as.integer(collaboration), "/organization")
  found <- call_api(client, "GET", path)
  data.frame(id = pick(found, "id", 0L), name = pick(found, "name", ""), domain = pick(found, "domain", ""))
}

new_client <- function(url, ca_file = NULL, access = "", proxied = FALSE) {
  client <- new.env(parent = emptyenv())
  client$url <- sub("/+$", "", url)
  client$ca_file <- ca_file
  client$access <- access
  client$refresh <- ""
  client$proxied <- proxied
  client$about <- NULL
  structure(client, class = "vtg_client")
}

check_client <- function(client) {
  if (!inherits(client, "vtg_client")) stop("client: give what vtg_proxy() or vtg_client() returns", call. = FALSE)
}

# Where `v6` keeps its files, on each kind of system.
proxy_file <- function() {
  base <- switch(
    Sys.info()[["sysname"]],
    Windows = Sys.getenv("LOCALAPPDATA"),
    Darwin = path.expand("~/Library/Application Support"),
    Sys.getenv("XDG_CONFIG_HOME", path.expand("~/.config"))
  )
  file.path(base, "vantage6", "v6", "proxy.json")
}

pick <- function(found, name, like) {
  vapply(found, function(each) if (is.null(each[[name]])) methods::as(NA, class(like)) else each[[name]], like)
}

# Calls of the REST API. Failures are conditions of the class vtg_error, with the reason that the server gives.

call_api <- function(client, method, path, body = NULL) {
  check_client(client)
  answer <- fetch(client, method, path, body)
  if (answer$status_code == 401 && renew(client)) answer <- fetch(client, method, path, body)
  value <- parse_json(answer$content)
  if (answer$status_code >= 400) vtg_stop(value, answer$status_code)
  value
}

fetch <- function(client, method, path, body) {
  handle <- new_handle(client)
  curl::handle_setopt(handle, customrequest = method)
  if (!is.null(body)) {
    curl::handle_setopt(handle, postfields = to_json(body))
    curl::handle_setheaders(handle, .list = c(headers(client), "Content-Type" = "application/json"))
  }
  tryCatch(
    curl::curl_fetch_memory(paste0(client$url, path), handle),
    error = function(error) {
      vtg_stop(list(message = paste0(client$url, ": ", conditionMessage(error)), reason = "UNAVAILABLE"), 0)
    }
  )
}

# Calls `each` with every event of the stream; ends when the server ends it.
follow <- function(client, path, last, each) {
  handle <- new_handle(client)
  if (nzchar(last)) curl::handle_setheaders(handle, .list = c(headers(client), "Last-Event-ID" = last))
  lines <- curl::curl(paste0(client$url, path), open = "r", handle = handle)
  on.exit(close(lines))
  data <- character()
  while (length(line <- readLines(lines, n = 1, encoding = "UTF-8"))) {
    if (startsWith(line, "id: ")) last <- substring(line, 5)
    if (startsWith(line, "data: ")) data <- c(data, substring(line, 7))
    if (nzchar(line) || !length(data)) next
    each(jsonlite::fromJSON(paste(data, collapse = "\n"), simplifyVector = FALSE), last)
    data <- character()
  }
  last
}

new_handle <- function(client) {
  handle <- curl::new_handle(connecttimeout = 30, followlocation = FALSE)
  if (!is.null(client$ca_file)) curl::handle_setopt(handle, cainfo = client$ca_file)
  curl::handle_setheaders(handle, .list = headers(client))
  handle
}

headers <- function(client) {
  if (nzchar(client$access)) list(Authorization = paste("Bearer", client$access)) else list()
}

# A refresh token is good for one use.
renew <- function(client) {
  if (!nzchar(client$refresh)) return(FALSE)
  used <- client$refresh
  client$refresh <- client$access <- ""
  answer <- fetch(client, "POST", "/api/token/refresh", list(refresh_token = used))
  if (answer$status_code != 200) return(FALSE)
  keep_tokens(client, parse_json(answer$content))
  TRUE
}

keep_tokens <- function(client, tokens) {
  client$access <- tokens$access_token
  client$refresh <- tokens$refresh_token
}

vtg_stop <- function(value, status) {
  text <- if (is.null(value$message)) value$msg else value$message
  if (is.null(text)) text <- paste("HTTP status", status)
  reason <- value$reason
  for (detail in value$details) if (is.null(reason)) reason <- detail$reason
  stop(structure(
    class = c("vtg_error", "error", "condition"),
    list(message = text, call = NULL, reason = if (is.null(reason)) "" else reason, status = status)
  ))
}

parse_json <- function(content) {
  text <- rawToChar(content)
  Encoding(text) <- "UTF-8"
  if (!nzchar(text)) return(NULL)
  tryCatch(jsonlite::fromJSON(text, simplifyVector = FALSE), error = function(error) list(message = text))
}

# jsonlite writes 15 digits at most, and some numbers need 17: those are handed to it as marked text.
to_json <- function(value) {
  text <- as.character(jsonlite::toJSON(marked(value), auto_unbox = TRUE, null = "null"))
  enc2utf8(gsub('"\\\\u0001([^"\\\\]*)\\\\u0001"', "\\1", text))
}

marked <- function(value) {
  if (is.object(value) && !inherits(value, c("AsIs", "data.frame"))) return(value) # factors, dates and the like
  if (is.list(value)) {
    value[] <- lapply(value, marked)
    return(value)
  }
  if (!is.double(value) && !(is.integer(value) && anyNA(value))) return(value)
  if (any(is.infinite(value))) stop("JSON has no infinite numbers", call. = FALSE)
  text <- sprintf("%.15g", value)
  longer <- !is.na(value) & suppressWarnings(as.numeric(text)) != value
  text[longer] <- sprintf("%.17g", value[longer])
  text <- ifelse(is.na(value), NA_character_, paste0("\001", text, "\001")) # what is missing is null
  attributes(text) <- attributes(value)
  text
}

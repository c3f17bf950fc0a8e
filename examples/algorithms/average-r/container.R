# What an algorithm in R finds in its container: its input, its data, its output, and the node's proxy.
#
# Nothing here is particular to this algorithm: copy the file. The contract is docs/algorithm-contract.md. R has no
# gRPC, so the proxy is spoken to as JSON over HTTP, on a Unix socket.

library(jsonlite)
suppressPackageStartupMessages(library(curl)) # It would say so in the log of each run.

# The researcher asked for something that cannot be done, or a site could not: the text is for them, so there are no
# values of the data in it. Other errors stay at the site.
refuse <- function(..., code = 2L) {
  stop(structure(class = c("refusal", "error", "condition"), list(message = paste0(...), call = NULL, code = code)))
}

# Runs the method that the input names, and ends the process as the contract says.
run <- function(methods) {
  code <- tryCatch({
    input <- deserialize(read_bytes(Sys.getenv("INPUT_FILE")))
    if (!isTRUE(input$method %in% names(methods))) {
      refuse("there is no such method; there are ", paste(names(methods), collapse = ", "))
    }
    value <- do.call(methods[[input$method]], c(unname(as.list(input$args)), as.list(input$kwargs)))
    writeBin(serialize_json(value), Sys.getenv("OUTPUT_FILE"))
    0L
  }, refusal = function(error) {
    message("error > ", conditionMessage(error))
    error$code
  }, error = function(error) {
    message("error > an error in R (its text stays at the site)")
    1L
  })
  quit(save = "no", status = code)
}

# The table of the task's first database, or of the one with this label.
read_table <- function(label = "") {
  prefix <- if (nzchar(label)) paste0(toupper(gsub("-", "_", label)), "_") else ""
  path <- Sys.getenv(paste0(prefix, "DATABASE_URI"))
  if (!nzchar(path)) refuse("the task names no database")
  utils::read.csv(path, check.names = FALSE)
}

# One call of the proxy. `each` is called with every answer; without it, the only answer is returned.
proxy <- function(method, request = list(), each = NULL) {
  address <- Sys.getenv("PROXY_HTTP_ADDRESS")
  handle <- new_handle(post = TRUE, postfields = if (length(request)) to_json(request) else "{}")
  handle_setheaders(handle, Authorization = paste("Bearer", readLines(Sys.getenv("TOKEN_FILE"), warn = FALSE)))
  if (startsWith(address, "unix:")) {
    handle_setopt(handle, unix_socket_path = sub("^unix:", "", address))
    address <- "proxy"
  }
  url <- paste0("http://", address, "/AlgorithmService/", method)
  if (is.null(each)) {
    answer <- curl_fetch_memory(url, handle)
    text <- rawToChar(answer$content)
    Encoding(text) <- "UTF-8"
    value <- fromJSON(text, simplifyVector = FALSE)
    if (answer$status_code != 200) refuse("the node: ", value$reason, ": ", value$message, code = 1L)
    return(value)
  }
  lines <- curl(url, open = "r", handle = handle)
  on.exit(close(lines))
  while (length(line <- readLines(lines, n = 1, encoding = "UTF-8"))) {
    value <- fromJSON(line, simplifyVector = FALSE)
    if (!is.null(value$error)) refuse("the node: ", value$error$reason, ": ", value$error$message, code = 1L)
    each(value)
  }
}

organizations <- function() {
  found <- list()
  proxy("ListParticipants", each = function(one) found[[length(found) + 1]] <<- one)
  found
}

# Runs a method of this image at organizations (all, unless told which) and calls `each` with the organization's name
# and what it returned, as it comes.
subtask <- function(method, args = list(), organization_ids = NULL, each) {
  if (is.null(organization_ids)) organization_ids <- vapply(organizations(), function(one) one$id, 0L)
  input <- base64_enc(serialize_json(list(method = method, args = args)))
  task <- proxy("CreateSubtask", list(input = gsub("\n", "", input), organization_ids = I(organization_ids)))
  first <- NULL
  parts <- raw()
  proxy("StreamResults", list(task_id = task$id), each = function(one) {
    if (is.null(first)) first <<- one
    parts <<- c(parts, base64_dec(one$output))
    if (isTRUE(one$more)) return() # A large output comes in several messages.
    if (first$state != "RESULT_STATE_COMPLETED") {
      refuse(first$organization_name, ": ", first$reason, " ", first$message, code = 1L)
    }
    each(first$organization_name, deserialize(parts))
    first <<- NULL
    parts <<- raw()
  })
}

# A value as the contract wants it: the format's name, a dot, the value.
serialize_json <- function(value) c(charToRaw("json."), charToRaw(enc2utf8(to_json(value))))

deserialize <- function(data) {
  end <- which(data == charToRaw("."))[1]
  if (is.na(end) || tolower(rawToChar(data[seq_len(end - 1)])) != "json") refuse("this algorithm reads json only")
  text <- rawToChar(data[-seq_len(end)])
  Encoding(text) <- "UTF-8"
  fromJSON(text, simplifyVector = FALSE)
}

# jsonlite writes 15 digits at most, and some numbers need 17: those are handed to it as marked text.
to_json <- function(value) {
  text <- as.character(toJSON(marked(value), auto_unbox = TRUE, null = "null"))
  gsub('"\\\\u0001([^"\\\\]*)\\\\u0001"', "\\1", text)
}

marked <- function(value) {
  if (is.object(value) && !inherits(value, c("AsIs", "data.frame"))) return(value) # factors, dates and the like
  if (is.list(value)) {
    value[] <- lapply(value, marked)
    return(value)
  }
  if (!is.double(value) && !(is.integer(value) && anyNA(value))) return(value)
  if (any(is.infinite(value))) refuse("the result has an infinite number, which JSON has not")
  text <- sprintf("%.15g", value)
  longer <- !is.na(value) & suppressWarnings(as.numeric(text)) != value
  text[longer] <- sprintf("%.17g", value[longer])
  text <- ifelse(is.na(value), NA_character_, paste0("\001", text, "\001")) # what is missing is null
  attributes(text) <- attributes(value)
  text
}

read_bytes <- function(path) readBin(path, "raw", file.size(path))

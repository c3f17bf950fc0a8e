#' Ask organizations to run an algorithm
#'
#' Through the user proxy the input is sealed for each organization. Without it, only collaborations that are not
#' encrypted can be asked.
#'
#' @param client From [vtg_proxy()] or [vtg_client()].
#' @param collaboration Id of the collaboration.
#' @param organizations Ids of the organizations that are to run it.
#' @param image The algorithm's container image.
#' @param method Which of its functions.
#' @param ... Arguments of the function, in order; named ones by their name. Vectors of length one become single
#'   values; wrap them in [I()] to send a list of one.
#' @param arguments More of them: those whose names begin like a parameter of this function, or are the same.
#' @param name,description For people, seen by the server: not sealed.
#' @param databases Labels of the databases that it may read.
#' @param deadline Seconds until unfinished results fail.
#' @param retries How often a result is tried again that was lost, or whose site failed.
#' @param min_results The task is complete when so many are.
#' @param priority Higher goes first.
#' @param fail_fast End it as soon as it cannot be completed any more.
#' @param retry_failures Every failure is tried again, the algorithm's own too.
#' @return The task, for [wait_task()] and [results()].
#' @examples
#' \dontrun{
#' task <- create_task(client, 1, 1, "vantage6/examples/average-r:dev", "average", "age")
#' results(client, task)
#' }
#' @export
create_task <- function(client, collaboration, organizations, image, method, ..., arguments = list(), name = "",
                        description = "", databases = "default", deadline = NULL, retries = NULL, min_results = NULL,
                        priority = NULL, fail_fast = FALSE, retry_failures = FALSE) {
  caller <- parent.frame()
  check_names(names(match.call(function(...) NULL, sys.call(), envir = caller)))
  collaboration <- as_ids(collaboration, "the collaboration is no number")
  organizations <- as_ids(organizations, "the organizations are no numbers", several = TRUE)
  input <- input_of(method, c(list(...), as.list(arguments)))
  body <- list(
    collaboration_id = collaboration, image = image, name = name, description = description,
    databases = I(databases), fail_fast = fail_fast, retry_failures = retry_failures
  )
  for (each in c("retries", "min_results", "priority")) body[[each]] <- get(each) # NULL adds nothing
  if (!is.null(deadline)) body$deadline <- format(Sys.time() + deadline, "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")
  if (isTRUE(client$proxied)) {
    body$organizations <- I(organizations)
    body$input <- input
  } else {
    where <- call_api(client, "GET", paste0("/api/collaboration/", body$collaboration_id))
    if (isTRUE(where$encrypted)) {
      stop("collaboration ", where$name, " is encrypted: start `v6 proxy` and use vtg_proxy()", call. = FALSE)
    }
    data <- gsub("\n", "", jsonlite::base64_enc(charToRaw(paste0("json.", to_json(input)))), fixed = TRUE)
    body$organizations <- lapply(organizations, function(id) list(id = id, input = data))
  }
  as_task(call_api(client, "POST", "/api/task", body))
}

# R takes the beginning of a parameter's name for the parameter, if it stands before the dots, and says nothing.
check_names <- function(given) {
  before <- setdiff(c("client", "collaboration", "organizations", "image", "method"), given)
  for (name in setdiff(given[nzchar(given)], names(formals(create_task)))) {
    taken <- before[startsWith(before, name)]
    if (length(taken)) {
      stop("`", name, "` would be read as `", taken[1], "`: write arguments = list(", name, " = ...)", call. = FALSE)
    }
  }
}

input_of <- function(method, arguments) {
  named <- if (is.null(names(arguments))) rep(FALSE, length(arguments)) else nzchar(names(arguments))
  input <- list(method = method, args = unname(arguments[!named]))
  if (any(named)) input$kwargs <- arguments[named]
  input
}

as_ids <- function(value, complaint, several = FALSE) {
  ids <- suppressWarnings(as.integer(value))
  if (anyNA(ids) || !length(ids) || (length(ids) > 1 && !several)) {
    stop(complaint, "; the algorithm's own arguments come after the method", call. = FALSE)
  }
  ids
}

#' A task as it is now, and ending one
#'
#' `cancel_task()` stops what is unfinished of a task; what has been returned stays.
#'
#' @inheritParams wait_task
#' @return The task.
#' @export
get_task <- function(client, task) {
  as_task(call_api(client, "GET", paste0("/api/task/", task_id(task))))
}

#' @rdname get_task
#' @export
cancel_task <- function(client, task) {
  as_task(call_api(client, "POST", paste0("/api/task/", task_id(task), "/cancel"), structure(list(), names = character())))
}

#' Wait until a task is complete
#'
#' What happens is pushed by the server; nothing is asked again and again. A connection that breaks is made anew and
#' goes on where it was.
#'
#' @param client From [vtg_proxy()] or [vtg_client()].
#' @param task From [create_task()], or its id.
#' @param progress Say what happens at each organization.
#' @return The task in its final state.
#' @examples
#' \dontrun{
#' wait_task(client, task)
#' }
#' @export
wait_task <- function(client, task, progress = interactive()) {
  id <- task_id(task)
  path <- paste0("/api/event?task_id=", id)
  last <- ""
  attempt <- 0
  repeat {
    found <- get_task(client, id)
    if (isTRUE(found$complete)) return(found)
    tryCatch(
      follow(client, path, last, function(event, at) {
        last <<- at
        attempt <<- 0
        if (progress) tell(event, id)
      }),
      # The connection broke, or was refused: the question above says whether anything is left to wait for.
      error = function(error) if (inherits(error, "vtg_error")) stop(error)
    )
    if (attempt > 0) Sys.sleep(min(30, 0.1 * 2^attempt) * stats::runif(1, 0.5, 1))
    attempt <- attempt + 1
  }
}

#' What the organizations returned
#'
#' Waits until the task is complete. Through the user proxy results are opened and their senders' signatures checked.
#'
#' @inheritParams wait_task
#' @return A list with one element for each organization: `organization_id`, `state`, `reason`, `message` and `value`,
#'   which is `NULL` for one that did not deliver. An error if a result was tampered with.
#' @examples
#' \dontrun{
#' for (result in results(client, task)) print(result$value)
#' }
#' @export
results <- function(client, task, progress = interactive()) {
  wait_task(client, task, progress)
  found <- call_api(client, "GET", paste0("/api/task/", task_id(task), "/result"))
  lapply(found, as_result)
}

as_result <- function(found) {
  if (!is.null(found$error)) vtg_stop(found$error, 200)
  if (is.null(found$result) && !is.null(found$result_payload)) {
    vtg_stop(list(message = "the output is large: fetch it with the user proxy", reason = "RESOURCE_EXHAUSTED"), 200)
  }
  organization <- found$organization
  structure(
    list(
      id = found$id,
      organization_id = if (is.list(organization)) organization$id else organization,
      state = sub("^RESULT_STATE_", "", found$state),
      reason = found$reason,
      message = found$message,
      value = if (is.null(found$result)) NULL else deserialize(jsonlite::base64_dec(found$result))
    ),
    class = "vtg_result"
  )
}

# The value behind the name of its format and a dot.
deserialize <- function(data) {
  end <- which(data == charToRaw("."))[1]
  if (is.na(end) || end > 10) stop("the output does not begin with a format, such as 'json.'", call. = FALSE)
  format <- tolower(rawToChar(data[seq_len(end - 1)]))
  rest <- data[-seq_len(end)]
  switch(
    format,
    json = {
      text <- rawToChar(rest)
      Encoding(text) <- "UTF-8"
      jsonlite::fromJSON(text)
    },
    bytes = rest,
    stop(
      "the output is in the format ", format, ", which this package does not read: leave the task's output_format at json",
      call. = FALSE
    )
  )
}

as_task <- function(found) structure(found, class = "vtg_task")

task_id <- function(task) as.integer(if (is.list(task)) task$id else task)

tell <- function(event, id) {
  result <- event$result
  if (is.null(result) || !identical(as.integer(result$task_id), id)) return(invisible())
  state <- tolower(sub("^RESULT_STATE_", "", result$state))
  message("organization ", result$organization_id, ": ", state, if (nzchar(paste0("", result$reason))) " ", result$reason)
}

#' @export
print.vtg_task <- function(x, ...) {
  state <- tolower(sub("^TASK_STATE_", "", paste0("", x$state)))
  cat("<vtg task ", x$id, "> ", x$name, ": ", x$image, ", ", state, "\n", sep = "")
  invisible(x)
}

#' @export
print.vtg_result <- function(x, ...) {
  cat("<vtg result> organization ", x$organization_id, ": ", tolower(x$state), " ", x$reason, "\n", sep = "")
  if (!is.null(x$value)) print(x$value)
  invisible(x)
}

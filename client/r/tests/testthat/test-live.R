# Against a real network, which VTG_LIVE names (`python -m pytest tests/languages`); it has a proxy for VANTAGE6_PROXY.

live <- function() {
  skip_if(!nzchar(Sys.getenv("VTG_LIVE")), "no network is named by VTG_LIVE")
  jsonlite::fromJSON(Sys.getenv("VTG_LIVE"))
}

test_that("an analysis through the user proxy is opened", {
  there <- live()
  client <- vtg_proxy()
  expect_output(print(client), "researcher at .*encrypted by the user proxy")
  found <- collaborations(client)
  expect_true(found$encrypted[found$id == there$collaboration])
  expect_equal(nrow(organizations(client, there$collaboration)), length(there$organizations))
  expect_error(authenticate(client, "a", "b"), "logged in already")

  task <- create_task(client, there$collaboration, there$organizations[1], there$image, "average", "age", name = "from R")
  expect_output(print(task), "from R")
  done <- wait_task(client, task)
  expect_true(done$complete)
  answers <- results(client, task)
  expect_length(answers, 1)
  expect_equal(answers[[1]]$state, "COMPLETED")
  expect_equal(answers[[1]]$value$average, there$average)
  expect_output(print(answers[[1]]), "completed")
  expect_error(get_task(client, 999999), class = "vtg_error")
})

test_that("how a task is to be done goes with it", {
  there <- live()
  client <- vtg_proxy()
  task <- create_task(
    client, there$collaboration, there$organizations[1], there$image, "average", "age",
    deadline = 600, retries = 1, min_results = 1, priority = 2, fail_fast = TRUE, retry_failures = TRUE
  )
  expect_equal(
    unlist(task[c("retries", "min_results", "priority", "fail_fast", "retry_failures")], use.names = FALSE),
    c(1, 1, 2, 1, 1)
  )
  left <- difftime(as.POSIXct(task$deadline, "UTC", format = "%Y-%m-%dT%H:%M:%S"), Sys.time(), units = "secs")
  expect_true(left > 0 && left <= 600)
  expect_true(wait_task(client, task)$complete)
})

test_that("what fails at a site is told", {
  there <- live()
  client <- vtg_proxy()
  task <- create_task(client, there$collaboration, there$organizations[1], there$image, "no_such_method")
  answers <- suppressMessages(results(client, task, progress = TRUE))
  expect_equal(answers[[1]]$reason, "ALGORITHM_FAILED")
  expect_null(answers[[1]]$value)
  expect_equal(cancel_task(client, task)$id, task$id)
})

test_that("the server is reached without the proxy, too, and wants encryption there", {
  there <- live()
  client <- vtg_client(there$url, ca_file = there$ca_file)
  expect_error(collaborations(client), class = "vtg_error")
  expect_error(authenticate(client, "researcher", "wrong"), class = "vtg_error")
  authenticate(client, "researcher", there$password)
  expect_output(print(client), "researcher at .*not encrypted")
  client$access <- "expired"
  expect_true(there$collaboration %in% collaborations(client)$id)
  expect_error(
    create_task(client, there$collaboration, there$organizations[1], there$image, "average", "age"),
    "is encrypted: start `v6 proxy`"
  )
})

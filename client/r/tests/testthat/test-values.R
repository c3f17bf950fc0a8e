test_that("values are read by the name of their format", {
  expect_equal(deserialize(charToRaw('json.{"average":52.5,"sites":["a","b"]}')), list(average = 52.5, sites = c("a", "b")))
  expect_equal(deserialize(charToRaw("JSON.[1,2]")), 1:2)
  expect_equal(deserialize(c(charToRaw("bytes."), as.raw(0:3))), as.raw(0:3))
  expect_equal(deserialize(charToRaw('json."\u00e9"')), "\u00e9")
  expect_error(deserialize(charToRaw("no format at all")), "does not begin with a format")
  expect_error(deserialize(as.raw(c(0x80, 0x04))), "does not begin with a format")
  expect_error(deserialize(charToRaw("pickle.x")), "does not read")
  expect_error(deserialize(charToRaw("arrow.x")), "leave the task's output_format at json")
})

test_that("arguments become JSON as they are meant", {
  expect_equal(to_json(list(args = list("age", 1.5, TRUE, I("x")))), '{"args":["age",1.5,true,["x"]]}')
  expect_equal(to_json(list(args = list())), '{"args":[]}')
  for (number in c(1 / 3, 0.1 + 0.2, 2^53 - 1, 5e-324, pi * 1e6, -1e300)) {
    expect_identical(as.numeric(to_json(number)), number)
  }
  expect_equal(to_json(c(0.1, 41, 1e15)), "[0.1,41,1e+15]")
  expect_equal(to_json(list(c(1, NA, 2), c(NA, 3L), NaN, I(0.5), NULL, factor("f"), matrix(c(1, 2), 1))),
               '[[1,null,2],[null,3],null,[0.5],null,"f",[[1,2]]]')
  expect_equal(to_json(data.frame(x = c(1 / 3, NA))), '[{"x":0.33333333333333331},{}]')
  expect_error(to_json(Inf), "infinite")
  people <- data.frame(age = c(41, NA), sex = c("f", "m"))
  expect_equal(to_json(list(args = list(people))), '{"args":[[{"age":41,"sex":"f"},{"sex":"m"}]]}')
})

test_that("failures carry their reason", {
  caught <- tryCatch(vtg_stop(list(msg = "no such task", details = list(list(reason = "NOT_FOUND"))), 404), vtg_error = identity)
  expect_equal(caught$reason, "NOT_FOUND")
  expect_equal(conditionMessage(caught), "no such task")
})

test_that("results that do not open are errors, and others have a value or none", {
  opened <- as_result(list(id = 1L, organization = 2L, state = "RESULT_STATE_COMPLETED", result = "anNvbi4x"))
  expect_equal(opened$value, 1L)
  failed <- as_result(list(id = 1L, organization = list(id = 2L), state = "RESULT_STATE_FAILED", reason = "DEADLINE"))
  expect_null(failed$value)
  expect_equal(failed$organization_id, 2L)
  broken <- list(id = 1L, error = list(reason = "ENVELOPE_BROKEN", message = "it does not open"))
  expect_error(as_result(broken), "does not open", class = "vtg_error")
})

test_that("without a proxy it says what to start", {
  expect_error(vtg_proxy(tempfile()), "v6 proxy")
  expect_error(collaborations("x"), "vtg_proxy")
  expect_error(collaborations(vtg_client("http://127.0.0.1:1")), class = "vtg_error")
})

test_that("arguments of the algorithm are not taken for those of the task", {
  client <- vtg_client("http://127.0.0.1:1")
  expect_error(create_task(client, 1, 2, "image", "average", col = "age"), "`col` would be read as `collaboration`")
  expect_error(create_task(client, 1, 2, "image", "average", i = 1), "arguments = list(i = ...)", fixed = TRUE)
  passing <- function(...) create_task(client, 1, 2, "image", "average", ...)
  expect_error(passing(col = "age"), "`col` would be read as `collaboration`")
  expect_error(create_task(client, "age", 2, "image", "average"), "the collaboration is no number")
  expect_error(create_task(client, 1, "north", "image", "average"), "the organizations are no numbers")
})

test_that("arguments that are named like those of the task go into a list", {
  # Whether the collaboration is encrypted is the first that the server would be asked.
  expect_error(
    create_task(vtg_client("http://127.0.0.1:1"), 1, 2, "image", "average", "age", arguments = list(col = 1, name = "x")),
    class = "vtg_error"
  )
  expect_equal(
    to_json(input_of("average", list("age", name = "x", col = 1L, 7L))),
    '{"method":"average","args":["age",7],"kwargs":{"name":"x","col":1}}'
  )
})

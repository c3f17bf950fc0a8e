# Federated average: every site tells a sum and a count, the central part divides.

here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "container.R"))

# Of fewer records a site tells nothing: their sum would say too much about each.
MINIMUM <- 5

# What leaves a site: the sum of a column and how many values it has.
partial_average <- function(column) {
  table <- read_table()
  if (!column %in% names(table) || !is.numeric(table[[column]])) {
    refuse("there is no column of numbers with this name here")
  }
  values <- table[[column]][!is.na(table[[column]])]
  if (length(values) < MINIMUM) refuse("there are fewer than ", MINIMUM, " values in this column here")
  list(sum = sum(values), count = length(values))
}

# The average over the organizations, and who answered.
average <- function(column, organizations = NULL) {
  total <- 0
  count <- 0
  sites <- character()
  subtask("partial_average", list(column), unlist(organizations), each = function(organization, value) {
    total <<- total + value$sum
    count <<- count + value$count
    sites <<- c(sites, organization)
    proxy("ReportProgress", list(text = paste(length(sites), "answers")))
  })
  if (count == 0) refuse("no organization was asked")
  list(average = total / count, count = count, sites = I(sort(sites)))
}

run(list(average = average, partial_average = partial_average))

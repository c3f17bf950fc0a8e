// Federated average: every site tells a sum and a count, the central part divides.

import { InputError, run } from "./container.mjs";

// Of fewer records a site tells nothing: their sum would say too much about each.
const MINIMUM = 5;

/** What leaves a site: the sum of a column and how many values it has. */
function partial_average({ readTable }, [column]) {
  const rows = readTable();
  const values = rows.map((row) => row[column] ?? "").filter((text) => !["", "NA"].includes(text)).map(Number);
  if (values.some(Number.isNaN) || !rows.some((row) => column in row)) {
    throw new InputError("there is no column of numbers with this name here");
  }
  if (values.length < MINIMUM) throw new InputError(`there are fewer than ${MINIMUM} values in this column here`);
  return { sum: values.reduce((sum, value) => sum + value, 0), count: values.length };
}

/** The average over the organizations, and who answered. */
async function average({ proxy }, [column, organizations]) {
  let [sum, count] = [0, 0];
  const sites = [];
  for await (const { organization, value } of proxy.subtask("partial_average", [column], organizations)) {
    sum += value.sum;
    count += value.count;
    sites.push(organization);
    await proxy.call("ReportProgress", { text: `${sites.length} answers` });
  }
  if (count === 0) throw new InputError("no organization was asked");
  return { average: sum / count, count, sites: sites.sort() };
}

await run({ average, partial_average });

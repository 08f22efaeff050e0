/** A DNS server over collections of records; knows neither mesh nor lab. */
export * from "./records.ts";

/** What runs beside an application: redirection, certificates, the embedded proxy or Envoy, health. */
export {};

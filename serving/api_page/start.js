// Swagger UI on this server's own document. BentoML's page does the same, and loads a tracker from elsewhere.
"use strict";

SwaggerUIBundle({
  url: "docs.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // else it asks a server elsewhere whether the document is valid
  requestInterceptor: (request) => {
    if (request.body instanceof FormData) leaveOutEmpty(request.body);
    return request;
  },
});

// Swagger UI sends a field that was left empty as an empty text, which the API refuses: no model is called "".
function leaveOutEmpty(form) {
  for (const name of new Set(form.keys())) {
    const given = form.getAll(name).filter((value) => value !== "");
    form.delete(name);
    for (const value of given) form.append(name, value);
  }
}

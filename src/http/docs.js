// Relative addresses: the page also works below a path that a proxy takes away.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  tryItOutEnabled: true,
  // Otherwise the page would ask a validator on the internet about this service.
  validatorUrl: null,
});

import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    files: ["src/spatialprobe/report/page/*.mjs"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    rules: {
      "no-restricted-syntax": [
        "error",
        { "selector": "Program > VariableDeclaration[kind!='const']", "message": "What changes belongs to the App." },
        { "selector": "ImportDefaultSpecifier, ImportNamespaceSpecifier, ExportDefaultDeclaration", "message": "Import and export by name: report/script.py joins the modules." },
      ],
    },
  },
  {
    files: ["tests/report/page/*.mjs"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.nodeBuiltin },
  },
  {
    rules: {
      "complexity": ["error", 14],
      "curly": ["error", "multi-line"],
      "eqeqeq": "error",
      "max-depth": ["error", 3],
      "max-lines": ["error", 300],
      "max-lines-per-function": ["error", 40],
      "no-implicit-coercion": ["error", { "disallowTemplateShorthand": false, "allow": ["!!"] }],
      "no-param-reassign": "error",
      "no-shadow": "error",
      "no-unused-vars": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
];

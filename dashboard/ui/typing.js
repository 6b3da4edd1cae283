// A text field that is being typed into keeps what it shows: what the server says meanwhile is shown once it is left.
(function () {
  const FIELDS = "input.bk-input[type=text], input.bk-input[type=password], textarea.bk-input";

  function hold(event) {
    const field = event.composedPath()[0];
    if (!field.matches?.(FIELDS) || Object.hasOwn(field, "value")) return;
    const {get} = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
    let last = null; // text that the field was to show since
    const release = () => {
      delete field.value;
      if (last !== null) field.value = last;
      for (const name of ["change", "blur"]) field.removeEventListener(name, release);
    };
    Object.defineProperty(field, "value", {configurable: true, get, set: text => { last = text }});
    for (const name of ["change", "blur"]) field.addEventListener(name, release); // after Bokeh has taken the text over
  }

  for (const name of ["focusin", "input"]) document.addEventListener(name, hold);
})();

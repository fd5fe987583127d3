// What a game may not do to the person who watches it: its output is untrusted (P06).

const TAKEN = () => true; // handled: xterm.js does nothing more

// Titles, the working directory, colours of the whole terminal, notifications, the clipboard.
const DEAF_OSC = [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 17, 19, 21, 50, 52, 99, 104, 105, 110, 111, 112, 117, 119, 133, 777, 1337];

/** Takes the sequences away that would reach beyond the terminal's own cells. */
export function fence(terminal) {
  DEAF_OSC.forEach((number) => terminal.parser.registerOscHandler(number, TAKEN));
  terminal.parser.registerCsiHandler({ final: "t" }, TAKEN); // window operations
}

/**
 * A program may ask the terminal what it is, and the answer is typed into the program. `mayAnswer()` false: nobody does,
 * as for output that is shown again, or where somebody only watches.
 */
export function answersOnlyWhen(terminal, mayAnswer) {
  const silent = () => !mayAnswer();
  for (const id of [{ final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" }, { final: "n" },
    { prefix: "?", final: "n" }, { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
    { prefix: ">", final: "q" }]) {
    terminal.parser.registerCsiHandler(id, silent);
  }
  terminal.parser.registerDcsHandler({ intermediates: "$", final: "q" }, silent);
  terminal.parser.registerEscHandler({ final: "Z" }, silent);
}

// Of older output only the text counts: what moves the cursor over other lines, clears them, or changes the screen would
// overwrite what is to be read.
const LINEAR_CSI = ["A", "B", "E", "F", "H", "f", "J", "L", "M", "S", "T", "d", "e", "r", "s", "u"];

/** Makes the terminal a plain reader of lines with colours. */
export function linear(terminal) {
  LINEAR_CSI.forEach((final) => terminal.parser.registerCsiHandler({ final }, TAKEN));
  for (const final of ["h", "l", "J", "K", "r", "s"]) terminal.parser.registerCsiHandler({ prefix: "?", final }, TAKEN);
  for (const final of ["h", "l"]) terminal.parser.registerCsiHandler({ final }, TAKEN);
  for (const final of ["c", "M", "D", "E", "7", "8"]) terminal.parser.registerEscHandler({ final }, TAKEN);
}

// What a game may not do to the person who watches it: its output is untrusted (P06).

const TAKEN = () => true; // handled: xterm.js does nothing more

// Titles, the working directory, colours of the whole terminal, notifications, the clipboard.
const DEAF_OSC = [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 17, 19, 21, 50, 52, 99, 104, 105, 110, 111, 112, 117, 119, 133, 777, 1337];

const MOST_REPEATED = 1000; // characters: the widest terminal that the daemon allows

/** Takes the sequences away that would reach beyond the terminal's own cells, or keep the page busy for ever. */
export function fence(terminal) {
  DEAF_OSC.forEach((number) => terminal.parser.registerOscHandler(number, TAKEN));
  terminal.parser.registerCsiHandler({ final: "t" }, TAKEN); // window operations
  bound(terminal);
}

/**
 * xterm.js does these as often as it is told, up to 2^31 times. More than the screen has changes nothing more, so that much
 * is done. Its public face hands a copy of the numbers out; they are changed where it keeps them.
 */
function bound(terminal) {
  const most = (finals, count) => finals.forEach((final) => terminal._core.registerCsiHandler({ final }, ({ params }) => {
    params[0] = Math.min(params[0], count());
    return false; // xterm.js does the rest
  }));
  most(["S", "T", "L", "M"], () => terminal.rows);
  most(["I", "Z"], () => terminal.cols);
  most(["b"], () => Math.max(1, Math.floor(MOST_REPEATED / lengthBefore(terminal.buffer.active))));
}

/** How long the character before the cursor is: accents without end may stand on it. A wide one fills two cells. */
function lengthBefore(buffer) {
  const line = buffer.getLine(buffer.baseY + buffer.cursorY);
  const lengthAt = (column) => line?.getCell(column)?.getChars().length ?? 0;
  return Math.max(1, lengthAt(buffer.cursorX - 1), lengthAt(buffer.cursorX - 2));
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

const MOST_ACCENTS = 30; // on one letter, as Unicode's stream-safe text has it (UAX 15)

/**
 * Letters as wide as `addon` says, with so many accents and no more: a browser draws one letter with 20 000 in 14 seconds.
 * What is beyond stands in a cell of no width, which is not drawn. What is told of a letter is a number: joined to the one
 * before (bit 0), its width (bits 1 and 2), and above them what we like: how many have been joined.
 */
export function drawable(terminal, addon) {
  const register = (letters) => terminal.unicode.register({
    version: "drawable",
    wcwidth: (code) => letters.wcwidth(code),
    charProperties: (code, before) => {
      const found = letters.charProperties(code, before);
      if (!(found & 1)) return found;
      const joined = (before >> 3) + 1;
      return joined > MOST_ACCENTS ? 0 : found | (joined << 3);
    },
  });
  addon.activate({ unicode: { register } });
  terminal.unicode.activeVersion = "drawable";
}

// Of older output only the text counts: what moves the cursor over other lines, clears them, or changes the screen would
// overwrite what is to be read.
const LINEAR_CSI = ["A", "B", "E", "F", "H", "f", "J", "L", "M", "S", "T", "d", "e", "r", "s", "u"];

/** Makes the terminal a plain reader of lines with colours. */
export function linear(terminal) {
  LINEAR_CSI.forEach((final) => terminal.parser.registerCsiHandler({ final }, TAKEN));
  for (const final of ["h", "l", "J", "K", "r", "s"]) terminal.parser.registerCsiHandler({ prefix: "?", final }, TAKEN);
  for (const final of ["h", "l"]) terminal.parser.registerCsiHandler({ final }, TAKEN);
  for (const final of ["@", "A"]) terminal.parser.registerCsiHandler({ intermediates: " ", final }, TAKEN);
  for (const final of ["}", "~"]) terminal.parser.registerCsiHandler({ intermediates: "'", final }, TAKEN);
  for (const final of ["c", "M", "D", "E", "7", "8"]) terminal.parser.registerEscHandler({ final }, TAKEN);
  terminal.parser.registerEscHandler({ intermediates: "#", final: "8" }, TAKEN); // fills the screen with E
}

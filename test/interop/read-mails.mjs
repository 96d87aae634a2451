// Reads mails (a JSON array of their sources, on standard input) with mailparser and prints what it
// understood, for the test that compares it with what was composed.
import { simpleParser } from 'mailparser';

const chunks = [];
for await (const c of process.stdin) chunks.push(c);
const out = [];
for (const source of JSON.parse(Buffer.concat(chunks).toString())) {
  const m = await simpleParser(source, { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true });
  out.push({
    id: m.messageId.replace(/^<|>$/g, ''),
    subject: m.subject,
    to: m.to.value.map((a) => a.address),
    from: m.from.value.map((a) => a.address),
    date: m.date.toISOString(),
    text: m.text,
    html: m.html,
    defects: [],
  });
}
process.stdout.write(JSON.stringify(out));

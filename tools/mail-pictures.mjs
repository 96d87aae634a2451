// Draws the pictures of docs/mail.md from what `lamplighter mail preview` wrote:
//
//   bin/lamplighter mail preview --time-zone Europe/Oslo --out PREVIEW
//   node tools/mail-pictures.mjs PREVIEW docs/images
//
// It needs chromium and, in the directory it is called from or above, npm's playwright-core. pngquant makes
// the pictures small.
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const pictures = [
  ['opened-state_change-server_error', 680, 'light', 'mail-opened'],
  ['opened-state_change-server_error', 375, 'light', 'mail-opened-phone'],
  ['recovered', 375, 'dark', 'mail-recovered-phone-dark'],
  ['digest', 680, 'dark', 'mail-digest-dark'],
]
const [preview, out] = process.argv.slice(2)
const { chromium } = createRequire(resolve('package.json'))('playwright-core')
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] })
for (const [mail, width, colorScheme, name] of pictures) {
  const page = await browser.newPage({ viewport: { width, height: 600 }, colorScheme })
  await page.goto(pathToFileURL(resolve(preview, `${mail}.html`)).href)
  const path = resolve(out, `${name}.png`)
  await page.screenshot({ path, fullPage: true })
  execFileSync('pngquant', ['--force', '--output', path, '32', path])
  await page.close()
}
await browser.close()

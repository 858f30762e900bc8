/** A document for Observable Plot to draw in: it makes SVG elements by way of the DOM, which Node has not. */
import { parseHTML } from 'linkedom';

export function newDocument() {
  return parseHTML('<!doctype html><html><body></body></html>').document;
}
